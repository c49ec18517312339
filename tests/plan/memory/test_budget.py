"""The memory that a plan may use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import UsageError
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import Amount
from launcher.plan.memory.budget import (
    DeviceBudget,
    device_margin,
    free_bytes,
    ram_reserve,
    read_budgets,
)
from launcher.plan.workload import Limits
from launcher.units import GIB, MIB
from tests.plan.shapes import device, machine


@pytest.mark.parametrize(
    ("ram_bytes", "reserve"),
    [(2 * GIB, 512 * MIB), (16 * GIB, GIB), (128 * GIB, 8 * GIB), (2048 * GIB, 8 * GIB)],
)
def test_the_reserve_grows_with_ram_and_stops(ram_bytes: int, reserve: int) -> None:
    assert reserve == ram_reserve(machine(ram_bytes=ram_bytes))


@pytest.mark.parametrize("backend", [Backend.CUDA, Backend.VULKAN, Backend.METAL])
def test_margin_and_overhead_are_what_llama_cpp_leaves(backend: Backend) -> None:
    card = device(0, 24 * GIB, backend=backend)
    budget = read_budgets(machine(card)).devices[0]
    top = budget.overhead.n_bytes + budget.overhead.band_bytes
    assert top + device_margin(card) == 1024 * MIB
    assert budget.n_bytes == 24 * GIB - device_margin(card)


def test_a_card_with_a_screen_keeps_more() -> None:
    assert device_margin(device(0, GIB, display=True)) == device_margin(device(0, GIB)) + 512 * MIB


def budget_of(card: Device, limits: Limits | None = None, *, ram_bytes: int = 64 * GIB) -> DeviceBudget:
    return read_budgets(machine(card, ram_bytes=ram_bytes), limits).devices[0]


def mib(amount: Amount) -> tuple[float, float]:
    """Return the least and the most of an amount, in MiB."""
    return (amount.n_bytes - amount.band_bytes) / MIB, (amount.n_bytes + amount.band_bytes) / MIB


@pytest.mark.parametrize(
    ("backend", "on_device", "on_host"),
    [
        (Backend.CUDA, (300, 600), (0, 256)),
        (Backend.HIP, (300, 600), (0, 0)),
        (Backend.SYCL, (150, 450), (0, 0)),
        (Backend.VULKAN, (0, 256), (0, 0)),
        (Backend.METAL, (0, 192), (0, 0)),
    ],
)
def test_what_a_backend_takes_for_itself(
    backend: Backend, on_device: tuple[int, int], on_host: tuple[int, int]
) -> None:
    budget = budget_of(replace(device(0, 24 * GIB), backend=backend))
    assert mib(budget.overhead) == on_device
    assert mib(budget.host_overhead) == on_host
    assert budget.margin_bytes == (1024 - on_device[1]) * MIB


def test_the_engine_takes_up_to_192_mib_of_ram() -> None:
    assert mib(read_budgets(machine()).host_overhead) == (0, 192)


def test_cpus_repack_types_of_their_own() -> None:
    x86 = read_budgets(machine()).repacked_types
    arm = read_budgets(replace(machine(), arch="arm64")).repacked_types
    assert x86 == read_budgets(replace(machine(), arch="AMD64")).repacked_types
    assert (GgmlType.Q2_K in x86, GgmlType.Q2_K in arm) == (True, False)
    assert (GgmlType.Q8_0 in x86, GgmlType.Q8_0 in arm) == (False, True)


def test_a_reserve_is_all_that_is_left_free() -> None:
    """The backend's own overhead, 600 MiB at most, is part of it."""
    card = device(0, 24 * GIB)
    for reserve, margin in ((600 * MIB, 0), (100 * MIB, 0), (601 * MIB, MIB), (2 * GIB, 2 * GIB - 600 * MIB)):
        for key in ("", "CUDA0"):
            budget = budget_of(card, Limits(reserve=((key, reserve),)))
            assert (budget.margin_bytes, budget.n_bytes) == (margin, 24 * GIB - margin)
    both = Limits(reserve=(("", 2 * GIB), ("CUDA0", 700 * MIB)))
    assert budget_of(card, both).margin_bytes == 100 * MIB


def test_ram_is_what_is_available_less_the_reserve() -> None:
    box = machine(ram_bytes=64 * GIB)
    assert read_budgets(box).host_bytes == 60 * GIB
    assert read_budgets(box, Limits(reserve=(("ram", GIB),))).host_bytes == 63 * GIB
    assert read_budgets(box, Limits(reserve=(("ram", 65 * GIB),))).host_bytes == 0
    assert read_budgets(box, Limits(max_ram_bytes=GIB)).host_bytes == GIB
    assert read_budgets(box, Limits(max_ram_bytes=61 * GIB)).host_bytes == 60 * GIB
    assert read_budgets(box, Limits(max_ram_bytes=0)).host_bytes == 0


def test_a_containers_limit_counts_for_the_reserve() -> None:
    assert ram_reserve(replace(machine(ram_bytes=64 * GIB), ram_limit_bytes=32 * GIB)) == 2 * GIB
    assert ram_reserve(replace(machine(ram_bytes=64 * GIB), ram_limit_bytes=128 * GIB)) == 4 * GIB


@pytest.mark.parametrize(("gib", "taken_mib"), [(24, 512), (25, 512), (50, 1024), (80, 1638)])
def test_a_card_of_unknown_use_is_idle(gib: int, taken_mib: int) -> None:
    idle = free_bytes(replace(device(0, gib * GIB), free_bytes=None))
    assert (gib * GIB - idle) // MIB == taken_mib
    assert free_bytes(device(0, gib * GIB)) == gib * GIB


def test_a_device_in_the_hosts_memory_has_no_more_than_the_host() -> None:
    gpu = device(0, 48 * GIB, backend=Backend.METAL, shares_host_memory=True)
    margin = device_margin(gpu)
    assert budget_of(gpu).n_bytes == 48 * GIB - margin
    assert budget_of(gpu, ram_bytes=32 * GIB).n_bytes == 30 * GIB - margin
    carved = replace(gpu, carve_out_bytes=16 * GIB)
    assert budget_of(carved, ram_bytes=32 * GIB).n_bytes == 46 * GIB - margin
    assert budget_of(device(0, 48 * GIB), ram_bytes=GIB).n_bytes == 48 * GIB - device_margin(device(0, GIB))
    assert budget_of(device(0, 100 * MIB)).n_bytes == 0


def test_devices_are_chosen_by_id_or_number() -> None:
    box = machine(*(device(index, GIB) for index in range(3)))

    def chosen(*names: str) -> list[str]:
        return [budget.device.id for budget in read_budgets(box, Limits(gpus=names)).devices]

    assert chosen("CUDA2", "0") == ["CUDA0", "CUDA2"]
    assert chosen() == []
    for name in ("3", "CUDA3", "-1"):
        with pytest.raises(UsageError, match=f"--gpus names {name}, and there are CUDA0, CUDA1, CUDA2"):
            chosen(name)
    with pytest.raises(UsageError, match="--reserve names CUDA9, and there is CUDA0"):
        budget_of(device(0, GIB), Limits(reserve=(("CUDA9", GIB),)))
    assert read_budgets(machine(), Limits(gpus=())).devices == ()
    with pytest.raises(UsageError, match="--gpus names 0, and there is no GPU"):
        read_budgets(machine(), Limits(gpus=("0",)))


def test_a_cpu_is_no_device() -> None:
    cpu = replace(device(0, GIB), backend=Backend.CPU, id="CPU")
    assert read_budgets(machine(cpu)).devices == ()


def apu(name: str, free: int = 96 * GIB) -> Device:
    shared = replace(device(0, 96 * GIB, backend=Backend.VULKAN), name=name, shares_host_memory=True)
    return replace(shared, free_bytes=free)


@pytest.mark.parametrize("name", ["NVIDIA GB10", "AMD Radeon 8060S", "Apple M4 Max"])
def test_a_gpu_in_the_hosts_memory_has_no_more_than_the_host_and_takes_from_it(name: str) -> None:
    host = replace(machine(apu(name), ram_bytes=96 * GIB), ram_available_bytes=64 * GIB)
    budgets = read_budgets(host)
    (gpu,) = budgets.devices
    assert gpu.in_ram
    assert gpu.n_bytes + gpu.margin_bytes <= budgets.host_bytes
    assert budgets.host_left([(gpu, 40 * GIB)]) == budgets.host_bytes - 40 * GIB
    assert budgets.host_left([(gpu, 90 * GIB)]) < 0  # what is short, of the one pool


def test_a_software_gpu_has_no_memory_besides_the_hosts() -> None:
    software = replace(device(0, 64 * GIB, backend=Backend.VULKAN), name="llvmpipe (LLVM 15.0.6, 256 bits)")
    budgets = read_budgets(machine(software, ram_bytes=64 * GIB))
    assert budgets.host_left([(budgets.devices[0], 40 * GIB)]) == budgets.host_bytes - 40 * GIB


def test_an_apu_in_a_container_has_what_the_host_has() -> None:
    host = machine(apu("AMD Radeon 8060S"), ram_bytes=124 * GIB)
    docker = replace(
        host, ram_limit_bytes=8 * GIB, ram_available_bytes=7 * GIB, host_available_bytes=60 * GIB
    )
    budgets = read_budgets(docker)
    (gpu,) = budgets.devices
    assert not gpu.in_ram
    assert gpu.n_bytes + gpu.margin_bytes == budgets.pool_bytes == 60 * GIB - ram_reserve(host)
    assert budgets.host_left([(gpu, 20 * GIB)]) == budgets.host_bytes == 7 * GIB - ram_reserve(docker)
    # the host's memory is still one
    assert budgets.host_left([(gpu, 50 * GIB)]) == budgets.pool_bytes - 50 * GIB


def test_an_apu_in_an_lxc_has_what_its_driver_says() -> None:
    lxc = machine(apu("AMD Radeon 8060S", 36 * GIB), ram_bytes=8 * GIB)
    (gpu,) = read_budgets(lxc).devices
    assert gpu.n_bytes == 36 * GIB - gpu.margin_bytes


@pytest.mark.parametrize("name", ["Intel(R) Graphics (RPL-P)", "NVIDIA GB10"])
def test_other_gpus_in_a_container_have_what_its_limit_leaves(name: str) -> None:
    host = machine(apu(name), ram_bytes=124 * GIB)
    docker = replace(host, ram_limit_bytes=8 * GIB, ram_available_bytes=7 * GIB)
    (gpu,) = read_budgets(docker).devices
    assert gpu.in_ram
    assert gpu.n_bytes < 7 * GIB


def test_the_reserve_of_a_small_container_is_small() -> None:
    assert ram_reserve(replace(machine(ram_bytes=64 * GIB), ram_limit_bytes=800 * MIB)) == 100 * MIB
    assert ram_reserve(replace(machine(ram_bytes=64 * GIB), ram_limit_bytes=4 * GIB)) == 512 * MIB
