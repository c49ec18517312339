"""Decide what is built and how, without touching anything. PURE."""

from __future__ import annotations

import hashlib
import json

from launcher.engine.pinned import Recipe
from launcher.machine.machine import Backend, Machine
from launcher.units import GIB

# RAM for one compiler process. Measured at 0c1e570 with GCC 12.2: the largest takes 0.60 GiB in a CPU build
# and 1.89 GiB in a Vulkan build (ru_maxrss of the children).
_JOB_BYTES = 2 * GIB

# llama.cpp sets CMAKE_RUNTIME_OUTPUT_DIRECTORY and CMAKE_LIBRARY_OUTPUT_DIRECTORY to build/bin
# (CMakeLists.txt): programs and shared libraries all land there.
OUTPUT = "bin"

_COMMON_ARGUMENTS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",  # the bindings load the engine's libraries
    "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON",  # RUNPATH $ORIGIN from the start: the folder may be moved
    "-DCMAKE_UNITY_BUILD_RELOCATABLE=ON",  # else unity files include absolute paths: no ccache hits elsewhere
    "-DGGML_NATIVE=ON",
    # No AMX: with GCC 12.2 the first prompt ends in SIGILL (amxtileintrin.h names 8 of the 64 bytes that
    # ldtilecfg reads), and models with MLA end at their first graph on the processor alone.
    *(f"-DCMAKE_{language}_FLAGS_RELEASE=-O3 -DNDEBUG -U__AMX_INT8__" for language in ("C", "CXX")),
    "-DGGML_RPC=ON",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # on by default: fetches unpinned files while building
    "-DLLAMA_BUILD_NUMBER=0",  # there is no git history to count; the commit is what identifies it
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_TESTS=ON",
    "-DLLAMA_OPENSSL=OFF",  # else the same key gives another binary where libssl's headers happen to be
)

# llama.cpp docs/build.md, by backend. CPU on Apple hardware needs an explicit no, see cmake_arguments.
_BACKEND_ARGUMENTS: dict[Backend, tuple[str, ...]] = {
    Backend.CUDA: ("-DGGML_CUDA=ON",),
    Backend.HIP: ("-DGGML_HIP=ON",),
    Backend.VULKAN: ("-DGGML_VULKAN=ON",),
    Backend.SYCL: ("-DGGML_SYCL=ON",),
    Backend.METAL: ("-DGGML_METAL=ON", "-DGGML_METAL_EMBED_LIBRARY=ON"),
    Backend.CPU: (),
}


def backend_for(machine: Machine, *, has_hip: bool = False) -> Backend:
    """Return the backend to build for the machine's first kind of GPU, CPU if it has none."""
    found = {device.backend for device in machine.devices}
    if Backend.CUDA in found:
        return Backend.CUDA
    if Backend.HIP in found:
        return Backend.HIP if has_hip else Backend.VULKAN
    if Backend.METAL in found or (machine.os.lower() == "darwin" and machine.arch == "arm64"):
        return Backend.METAL
    if found & {Backend.VULKAN, Backend.SYCL}:
        return Backend.VULKAN
    return Backend.CPU


def jobs_for(machine: Machine) -> int:
    """Return how many compilers may run at once, by usable cores and available RAM; at least one."""
    cores = [machine.cpu.affinity, machine.cpu.logical_cores]
    if machine.cpu.quota is not None:
        cores.append(int(machine.cpu.quota))
    return max(1, min(*cores, machine.ram_available_bytes // _JOB_BYTES))


def cuda_architectures(machine: Machine) -> tuple[str, ...]:
    """Return the compute capabilities of the machine's cards as cmake writes them: `8.6` -> `86`."""
    capabilities = {device.compute_capability for device in machine.devices if device.backend is Backend.CUDA}
    return tuple(
        sorted((c.replace(".", "") for c in capabilities if c is not None and c.strip(".0")), key=int)
    )


def cmake_arguments(
    recipe: Recipe, backend: Backend, *, architectures: tuple[str, ...] = (), apple: bool = False
) -> tuple[str, ...]:
    """Return the arguments that decide what the engine is (not generator, compiler, ccache)."""
    arguments = (
        *_COMMON_ARGUMENTS,
        f"-DCMAKE_INSTALL_RPATH={'@loader_path' if apple else '$ORIGIN'}",
        f"-DLLAMA_BUILD_COMMIT={recipe.commit}",
        *_BACKEND_ARGUMENTS[backend],
        *recipe.arguments,
    )
    if backend is Backend.CUDA and architectures:
        listed = ";".join(f"{architecture}-real" for architecture in architectures)
        arguments += (f"-DCMAKE_CUDA_ARCHITECTURES={listed}",)
    if apple and backend is not Backend.METAL:
        arguments += ("-DGGML_METAL=OFF",)  # on by default there (ggml/CMakeLists.txt)
    return arguments


def cmake_leftovers(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    """Return what makes cmake forget, in a tree configured with `before`, what `after` does not set."""
    names = [[argument.removeprefix("-D").partition("=")[0] for argument in each] for each in (before, after)]
    return tuple(f"-U{name}" for name in names[0] if name not in names[1])


def build_key(recipe: Recipe, backend: Backend, facts: dict[str, object]) -> str:
    """Return a key like `0.3.36-cpu-1f0c29ab`: readable first, then a digest of all facts."""
    everything = {"commit": recipe.commit, "targets": recipe.targets, "backend": backend, **facts}
    digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    return f"{recipe.version}-{backend}-{digest[:8]}"
