"""Which GPUs have the host's memory, by name, by compute capability and by size."""

from __future__ import annotations

import pytest

from launcher.machine.from_toml import parse_machine
from launcher.machine.machine import Backend, Device, Link
from launcher.machine.shared_memory import (
    Charge,
    charge_of,
    counts_in_ram,
    host_available,
    shares,
    shares_by_kind,
    shares_by_size,
)
from launcher.units import GIB

C, H, V, S, M = Backend.CUDA, Backend.HIP, Backend.VULKAN, Backend.SYCL, Backend.METAL


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        (C, "NVIDIA GB10"),
        (V, "NVIDIA GB10"),
        (C, "Orin"),
        (V, "NVIDIA Tegra Orin (nvgpu)"),
        (C, "NVIDIA Thor"),
        (C, "NVIDIA N1X"),
        (V, "AMD Radeon 8060S Graphics (RADV STRIX_HALO)"),
        (H, "Radeon 8060S Graphics"),
        (V, "AMD Radeon 780M Graphics (RADV PHOENIX)"),
        (V, "AMD Radeon 890M Graphics (RADV GFX1150)"),
        (V, "AMD Radeon Graphics (RADV RENOIR)"),
        (V, "AMD Radeon Vega 8 Graphics (RADV RAVEN)"),
        (V, "AMD Radeon(TM) Graphics"),
        (V, "AMD Custom GPU 0405 (RADV VANGOGH)"),
        (H, "AMD Instinct MI300A"),
        (V, "Intel(R) UHD Graphics 770 (ADL-S GT1)"),
        (V, "Intel(R) Arc(tm) Graphics (MTL)"),
        (S, "Intel(R) Arc(TM) 140V GPU (16GB)"),
        (S, "Intel(R) Arc(TM) B390 GPU"),
        (V, "Virtio-GPU Venus (Intel Graphics)"),
        (M, "Apple M3 Ultra"),
        (V, "Apple M2 Max"),
        (V, "Virtio-GPU Venus (Apple M4 Pro)"),
    ],
)
def test_gpus_in_the_hosts_memory_are_known_by_name(backend: Backend, name: str) -> None:
    assert shares_by_kind(backend, name)


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        (C, "NVIDIA GeForce RTX 3090"),
        (C, "NVIDIA H200"),
        (C, "NVIDIA GH200 480GB"),
        (C, "NVIDIA GB200"),
        (C, "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"),
        (V, "AMD Radeon RX 7900 XTX (RADV NAVI31)"),
        (V, "AMD Radeon RX Vega (RADV VEGA10)"),
        (V, "AMD Radeon RX 6600M (RADV NAVI23)"),
        (V, "AMD Radeon 530 (RADV POLARIS12)"),
        (V, "AMD Radeon R9 M375"),
        (H, "AMD Radeon Graphics"),  # either kind: sysfs tells
        (H, "AMD Instinct MI300X"),
        (S, "Intel(R) Arc(TM) B580 Graphics"),
        (S, "Intel(R) Arc(TM) Pro B60 Graphics"),
        (S, "Intel(R) Data Center GPU Max 1550"),
        (M, "AMD Radeon Pro 5500M"),
        (V, "llvmpipe (LLVM 15.0.6, 256 bits)"),
    ],
)
def test_cards_are_not(backend: Backend, name: str) -> None:
    assert not shares_by_kind(backend, name)


@pytest.mark.parametrize(
    ("capability", "integrated"),
    [("12.1", True), ("8.7", True), ("11.0", True), ("12.0", False), ("9.0", False), (None, False)],
)
def test_compute_capabilities_of_integrated_gpus(capability: str | None, *, integrated: bool) -> None:
    assert shares_by_kind(C, "NVIDIA Graphics Device", capability) == integrated


def device(name: str, total_gib: float, width: int | None = None) -> Device:
    link = None if width is None else Link(pcie_generation=4, pcie_width=width)
    total = int(total_gib * GIB)
    return Device(id="CUDA0", backend=C, name=name, total_bytes=total, free_bytes=total, link=link)


@pytest.mark.parametrize(
    ("gpu", "ram_gib", "one_pool"),
    [
        (device("NVIDIA Graphics Device", 121.7), 121.7, True),
        (device("NVIDIA Graphics Device", 119, width=1), 121.7, True),
        (device("NVIDIA Graphics Device", 96), 121.7, False),
        (device("NVIDIA Graphics Device", 31.8, width=8), 31.2, False),
        # cards as large as the host's RAM
        (device("NVIDIA GeForce RTX 5090", 31.8), 31.2, False),
        (device("NVIDIA GeForce RTX 3090", 24), 23.5, False),
        (device("NVIDIA L40S", 45), 46, False),
        (device("AMD Radeon RX 7800 XT (RADV NAVI32)", 16), 15.6, False),
    ],
)
def test_a_gpu_that_reports_all_of_the_hosts_memory(gpu: Device, ram_gib: float, *, one_pool: bool) -> None:
    assert shares_by_size(gpu, int(ram_gib * GIB)) == one_pool
    assert shares(gpu, int(ram_gib * GIB)) == one_pool


GB10 = """
[ram]
total = "124610 MiB"
available = "115 GiB"
[[device]]
backend = "cuda"
name = "NVIDIA GB10"
total = "124610 MiB"
"""


def test_a_machine_file_need_not_say_so() -> None:
    (gpu,) = parse_machine(GB10, "gb10.toml").devices
    assert gpu.shares_host_memory
    (gpu,) = parse_machine(GB10 + "shares_host_memory = false\n", "gb10.toml").devices
    assert not gpu.shares_host_memory


APU = """
[[device]]
backend = "vulkan"
name = "AMD Radeon 8060S Graphics (RADV STRIX_HALO)"
total = "98816 MiB"
carve_out = "512 MiB"
"""


@pytest.mark.parametrize(
    ("name", "charge"),
    [
        ("AMD Radeon 8060S Graphics (RADV STRIX_HALO)", Charge.HOST),
        ("Radeon 8060S Graphics", Charge.HOST),
        ("Intel(R) Graphics (RPL-P)", Charge.CGROUP),
        ("Virtio-GPU Venus (Intel Graphics)", Charge.CGROUP),
        ("llvmpipe (LLVM 15.0.6, 256 bits)", Charge.CGROUP),
        ("NVIDIA GB10", Charge.UNKNOWN),
    ],
)
def test_who_pays_for_the_memory_by_driver(name: str, charge: Charge) -> None:
    assert charge_of(device(name, 16)) is charge


@pytest.mark.parametrize(
    ("ram", "in_ram", "available"),
    [
        # a whole machine: one pool, also with more GTT than MemTotal (ttm.pages_limit)
        ('total = "124 GiB"', True, None),
        ('total = "94 GiB"', True, None),
        # docker -m 8g, the host's memory known and assumed
        ('total = "124 GiB"\nlimit = "8 GiB"\nhost_available = "100 GiB"', False, 100 * GIB),
        ('total = "128 GiB"\nlimit = "8 GiB"', False, 124 * GIB),
        # an LXC whose limit lxcfs shows as MemTotal
        ('total = "8 GiB"', False, None),
    ],
)
def test_an_apu_in_a_container_has_the_hosts_memory(ram: str, *, in_ram: bool, available: int | None) -> None:
    machine = parse_machine(f"[ram]\n{ram}\n{APU}", "apu.toml")
    assert counts_in_ram(machine, machine.devices[0]) == in_ram
    assert host_available(machine) == available


def test_other_gpus_in_a_container_have_its_memory() -> None:
    for name in ("Intel(R) Graphics (RPL-P)", "NVIDIA GB10"):
        text = APU.replace("AMD Radeon 8060S Graphics (RADV STRIX_HALO)", name)
        machine = parse_machine(f'[ram]\ntotal = "124 GiB"\nlimit = "8 GiB"\n{text}', "igpu.toml")
        assert counts_in_ram(machine, machine.devices[0])
