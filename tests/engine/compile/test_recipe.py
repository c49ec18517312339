"""Backend, jobs, cmake arguments and keys as functions of a machine."""

from __future__ import annotations

import pytest

from launcher.engine.compile.recipe import (
    backend_for,
    build_key,
    cmake_arguments,
    cmake_leftovers,
    cuda_architectures,
    jobs_for,
)
from launcher.engine.pinned import LLAMA_CPP
from launcher.machine.machine import Backend, Cpu, Device, Machine
from launcher.units import GIB


def machine(
    *devices: Device,
    os: str = "linux",
    arch: str = "x86_64",
    cores: int = 16,
    affinity: int = 16,
    quota: float | None = None,
    available: int = 64 * GIB,
) -> Machine:
    cpu = Cpu(
        name=None,
        physical_cores=cores // 2,
        performance_cores=None,
        logical_cores=cores,
        affinity=affinity,
        quota=quota,
        isa=(),
    )
    return Machine(
        os=os,
        arch=arch,
        cpu=cpu,
        ram_total_bytes=64 * GIB,
        ram_available_bytes=available,
        ram_limit_bytes=None,
        nodes=(),
        devices=devices,
        store=None,
    )


def device(backend: Backend, *, capability: str | None = None) -> Device:
    return Device(
        id="X0",
        backend=backend,
        name="x",
        total_bytes=GIB,
        free_bytes=None,
        compute_capability=capability,
    )


@pytest.mark.parametrize(
    ("devices", "has_hip", "backend"),
    [
        ((), True, Backend.CPU),
        ((Backend.CUDA,), False, Backend.CUDA),
        ((Backend.HIP,), True, Backend.HIP),
        ((Backend.HIP,), False, Backend.VULKAN),
        ((Backend.VULKAN,), True, Backend.VULKAN),
        ((Backend.SYCL,), False, Backend.VULKAN),
        ((Backend.METAL,), False, Backend.METAL),
        ((Backend.VULKAN, Backend.CUDA), False, Backend.CUDA),  # an Intel iGPU beside the NVIDIA card
    ],
)
def test_backend_for(devices: tuple[Backend, ...], *, has_hip: bool, backend: Backend) -> None:
    assert backend_for(machine(*map(device, devices)), has_hip=has_hip) is backend


def test_backend_for_apple_silicon_without_a_probed_device() -> None:
    assert backend_for(machine(os="Darwin", arch="arm64")) is Backend.METAL


@pytest.mark.parametrize(
    ("cores", "affinity", "quota", "available", "jobs"),
    [
        (16, 16, None, 64 * GIB, 16),
        (16, 4, None, 64 * GIB, 4),
        (16, 16, 2.5, 64 * GIB, 2),
        (16, 16, 0.5, 64 * GIB, 1),
        (16, 16, None, 7 * GIB, 3),
        (16, 16, None, 0, 1),
    ],
)
def test_jobs_for(cores: int, affinity: int, quota: float | None, available: int, jobs: int) -> None:
    here = machine(cores=cores, affinity=affinity, quota=quota, available=available)
    assert jobs_for(here) == jobs


def test_cuda_architectures_are_the_machines_own() -> None:
    cards = [device(Backend.CUDA, capability=c) for c in ("8.6", "12.0", "8.6", None)]
    here = machine(*cards, device(Backend.VULKAN, capability="1.3"))
    assert cuda_architectures(here) == ("86", "120")
    arguments = cmake_arguments(LLAMA_CPP, Backend.CUDA, architectures=cuda_architectures(here))
    assert "-DCMAKE_CUDA_ARCHITECTURES=86-real;120-real" in arguments


def test_arguments_of_backends_and_systems() -> None:
    cpu = cmake_arguments(LLAMA_CPP, Backend.CPU)
    assert "-DLLAMA_BUILD_COMMIT=0c1e570" in cpu
    assert "-DCMAKE_INSTALL_RPATH=$ORIGIN" in cpu
    assert set(cmake_arguments(LLAMA_CPP, Backend.VULKAN)) - set(cpu) == {"-DGGML_VULKAN=ON"}
    apple = cmake_arguments(LLAMA_CPP, Backend.CPU, apple=True)
    assert {"-DGGML_METAL=OFF", "-DCMAKE_INSTALL_RPATH=@loader_path"} <= set(apple)


def test_a_key_is_readable_and_changes_with_every_fact() -> None:
    facts: dict[str, object] = {"compiler": "c++ 12", "isa": ("avx2",)}
    key = build_key(LLAMA_CPP, Backend.CPU, facts)
    assert key.startswith("0.3.36-cpu-")
    assert key == build_key(LLAMA_CPP, Backend.CPU, dict(reversed(facts.items())))
    others = [
        {**facts, "compiler": "c++ 13"},
        {**facts, "isa": ("avx2", "fma")},
        {**facts, "toolkit": "CUDA"},
    ]
    assert len({key, *(build_key(LLAMA_CPP, Backend.CPU, other) for other in others)}) == 4


def test_cmake_forgets_what_another_build_in_its_tree_had() -> None:
    cpu, vulkan = (cmake_arguments(LLAMA_CPP, backend) for backend in (Backend.CPU, Backend.VULKAN))
    assert cmake_leftovers(vulkan, cpu) == ("-UGGML_VULKAN",)
    assert cmake_leftovers(cpu, vulkan) == ()
