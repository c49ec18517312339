"""Find the compiler, cmake, ninja, ccache, and the toolkit that a GPU backend needs."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.compile.cuda_packages import WITHOUT_DRIVER, settings_of
from launcher.engine.compile.toolkits import PREFIXES, named, nvidia_driver, which
from launcher.errors import EngineFailed
from launcher.machine.machine import Backend
from launcher.system.run_program import output_of

_COMPILERS = (("cc", "c++"), ("gcc", "g++"), ("clang", "clang++"))
_INTEL_COMPILERS = (("icx", "icpx"),)

# What to install, per package manager. llama.cpp docs/build.md, sections CUDA, HIP and Vulkan; names as the
# distributions spell them.
_PACKAGES: dict[str, dict[str, str]] = {
    "compiler": {
        "apt-get": "build-essential",
        "dnf": "gcc gcc-c++",
        "pacman": "base-devel",
        "zypper": "gcc gcc-c++",
        "apk": "build-base",
    },
    "vulkan": {
        "apt-get": "libvulkan-dev glslc spirv-headers",
        "dnf": "vulkan-loader-devel vulkan-headers glslc spirv-headers-devel",
        "pacman": "vulkan-headers vulkan-icd-loader shaderc spirv-headers",
        "zypper": "vulkan-devel shaderc spirv-headers",
        "apk": "vulkan-headers vulkan-loader-dev shaderc spirv-headers",
        "brew": "vulkan-headers vulkan-loader shaderc spirv-headers",
    },
    "cuda": {
        "apt-get": "nvidia-cuda-toolkit",
        "dnf": "cuda-toolkit",
        "pacman": "cuda",
        "zypper": "cuda-toolkit",
    },
    "hip": {"apt-get": "hipcc libhipblas-dev librocblas-dev", "dnf": "hipcc hipblas-devel rocblas-devel"},
}
_MANAGERS = ("apt-get", "dnf", "pacman", "zypper", "apk", "brew")
_ELSE = "or use a llama-server you have (--engine PATH), or build without the GPU (--backend cpu)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """The tools that one build uses."""

    c: Path
    cxx: Path
    compiler: str  # its own words: `c++ (Debian 12.2.0-14) 12.2.0`
    cmake: Path
    ninja: Path
    ccache: Path | None
    toolkit: str | None = None  # `CUDA 13.0`
    vulkan_headers: tuple[int, int, int] | None = None  # their version; None for other backends
    settings: tuple[str, ...] = ()  # cmake arguments by which cmake finds these tools
    environment: tuple[tuple[str, str], ...] = ()  # variables for the same purpose


def find_toolchain(
    backend: Backend, *, prefixes: tuple[Path, ...] = PREFIXES, packaged: Path | None = None
) -> Toolchain:
    """Find all that a build for `backend` needs, with toolkits on PATH and below `prefixes`.

    `packaged` is a CUDA toolkit out of packages, which is then used.

    Raises EngineFailed naming what is missing and how to get it.
    """
    c, cxx = _compilers(backend)
    base = Toolchain(
        c=c,
        cxx=cxx,
        compiler=_first_line(cxx, "--version"),
        cmake=_python_tool("cmake"),
        ninja=_python_tool("ninja"),
        ccache=which("ccache"),
    )
    match backend:
        case Backend.CUDA if packaged is not None:
            return _with_packaged_cuda(base, packaged)
        case Backend.CUDA:
            return _with_cuda(base, prefixes)
        case Backend.HIP:
            return _with_hip(base, prefixes)
        case Backend.VULKAN:
            return _with_vulkan(base, prefixes)
        case Backend.METAL if sys.platform != "darwin":
            raise EngineFailed("the Metal backend is for Apple hardware", hint="--backend cpu")
        case _:
            return base


def install_hint(what: str) -> str:
    """Return the command that installs `what` (a key of _PACKAGES) on this system."""
    if what == "compiler" and sys.platform == "darwin":
        return "xcode-select --install"
    for manager in _MANAGERS:
        if manager in _PACKAGES[what] and shutil.which(manager) is not None:
            sudo = "" if manager == "brew" or os.geteuid() == 0 else "sudo "
            verb = {"pacman": "-S", "apk": "add"}.get(manager, "install")
            return f"{sudo}{manager} {verb} {_PACKAGES[what][manager]}"
    return f"install {_PACKAGES[what]['apt-get']} (as Debian calls it)"


def parse_vulkan_version(header: str) -> tuple[int, int, int] | None:
    """Parse the version in vulkan_core.h, such as (1, 3, 239)."""
    patch = re.search(r"#define VK_HEADER_VERSION (\d+)", header)
    complete = re.search(
        r"#define VK_HEADER_VERSION_COMPLETE VK_MAKE(?:_API)?_VERSION\((?:0, )?(\d+), (\d+),", header
    )
    return (int(complete[1]), int(complete[2]), int(patch[1])) if patch and complete else None


def _compilers(backend: Backend) -> tuple[Path, Path]:
    """Return the compilers for C and C++: from the environment, else the first complete pair."""
    # `CC` and `CXX` win, as everywhere.
    given = tuple(shutil.which(os.environ.get(name, "")) for name in ("CC", "CXX"))
    if given[0] and given[1]:
        return Path(given[0]), Path(given[1])
    pairs = _INTEL_COMPILERS if backend is Backend.SYCL else _COMPILERS
    for c, cxx in pairs:
        found = which(c), which(cxx)
        if found[0] and found[1]:
            return found[0], found[1]
    names = ", ".join(cxx for _, cxx in pairs)
    if backend is Backend.SYCL:
        raise EngineFailed(f"Intel's compiler was not found ({names})", hint=f"install oneAPI, {_ELSE}")
    raise EngineFailed(
        f"no C++ compiler was found ({names})",
        hint=f"{install_hint('compiler')}, or use a llama-server you have: --engine PATH",
    )


def _python_tool(name: str) -> Path:
    """Find cmake or ninja."""
    # cmake and ninja come as packages beside this Python; the system's do too.
    beside = Path(sysconfig.get_path("scripts")) / name
    if os.access(beside, os.X_OK):
        return beside
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        inside = Path(spec.origin).parent / "data" / "bin" / name
        if os.access(inside, os.X_OK):
            return inside
    found = which(name)
    if found is None:
        raise EngineFailed(f"{name} was not found", hint=f"{sys.executable} -m pip install {name}")
    return found


def _with_cuda(base: Toolchain, prefixes: tuple[Path, ...]) -> Toolchain:
    nvcc = which("nvcc", *named("CUDA_HOME", "CUDA_PATH"), *prefixes)
    if nvcc is None:
        raise EngineFailed(
            "building for NVIDIA GPUs needs the CUDA toolkit, and nvcc was not found",
            hint=f"{install_hint('cuda')}, {_ELSE}",
        )
    # a toolkit has a stub to link with, so that only the first start would tell that no driver is here
    settings = () if nvidia_driver() is not None else WITHOUT_DRIVER
    # NVIDIA's own installer does not tell the loader where its libraries are
    libraries = nvcc.resolve().parent.parent / "lib64"
    return dataclasses.replace(
        base,
        toolkit=" ".join((_cuda_release(nvcc), *settings)),
        settings=(f"-DCMAKE_CUDA_COMPILER={nvcc}", *_linked("-rpath", libraries), *settings),
    )


def _with_packaged_cuda(base: Toolchain, toolkit: Path) -> Toolchain:
    nvcc, settings = toolkit / "bin" / "nvcc", settings_of(toolkit)
    return dataclasses.replace(
        base,
        toolkit=" ".join((_cuda_release(nvcc), "out of packages", *settings)),
        # the engine has copies of these libraries beside it; programs are linked before they are made
        settings=(f"-DCMAKE_CUDA_COMPILER={nvcc}", *_linked("-rpath-link", toolkit / "lib"), *settings),
    )


def _linked(how: str, libraries: Path) -> tuple[str, ...]:
    # else programs that need libggml-cuda.so are not linked: what it needs in turn is not found
    return tuple(f"-DCMAKE_{kind}_LINKER_FLAGS=-Wl,{how},{libraries}" for kind in ("EXE", "SHARED"))


def _cuda_release(nvcc: Path) -> str:
    release = re.search(r"release (\d+\.\d+)", output_of(nvcc, "--version"))
    return f"CUDA {release[1] if release else '?'}"


def _with_hip(base: Toolchain, prefixes: tuple[Path, ...]) -> Toolchain:
    hipcc = which("hipcc", *named("ROCM_PATH"), *prefixes)
    if hipcc is None:
        raise EngineFailed(
            "building for AMD GPUs with HIP needs ROCm, and hipcc was not found",
            hint=f"{install_hint('hip')}, or build with --backend vulkan, {_ELSE}",
        )
    # llama.cpp docs/build.md: HIPCXX="$(hipconfig -l)/clang" HIP_PATH="$(hipconfig -R)" cmake …
    hipconfig = hipcc.with_name("hipconfig")
    clang, root = output_of(hipconfig, "-l").strip(), output_of(hipconfig, "-R").strip()
    variables = {"HIPCXX": f"{clang}/clang" if clang else "", "HIP_PATH": root}
    version = re.search(r"HIP version: (\S+)", output_of(hipcc, "--version"))
    return dataclasses.replace(
        base,
        toolkit=f"HIP {version[1] if version else '?'}",
        environment=tuple((name, value) for name, value in variables.items() if value),
    )


def _with_vulkan(base: Toolchain, prefixes: tuple[Path, ...]) -> Toolchain:
    roots = (*named("VULKAN_SDK"), *prefixes)
    headers = [root / "include" for root in roots]
    core = next((h / "vulkan/vulkan_core.h" for h in headers if (h / "vulkan/vulkan_core.h").is_file()), None)
    glslc = which("glslc", *roots)
    spirv = any((root / "include/spirv/unified1/spirv.hpp").is_file() for root in roots)
    missing = [
        name
        for name, found in (("Vulkan headers", core), ("glslc", glslc), ("SPIR-V headers", spirv))
        if not found
    ]
    if missing or core is None:
        raise EngineFailed(
            f"building for Vulkan needs {' and '.join(missing)}, not found here",
            hint=f"{install_hint('vulkan')}, {_ELSE}",
        )
    version = parse_vulkan_version(core.read_text())
    if version is None:
        raise EngineFailed(f"{core} does not say its version", hint=f"{install_hint('vulkan')}, {_ELSE}")
    return dataclasses.replace(
        base, toolkit=f"Vulkan headers {'.'.join(map(str, version))}", vulkan_headers=version
    )


def _first_line(program: Path, *arguments: str) -> str:
    return next(iter(output_of(program, *arguments).splitlines()), program.name)
