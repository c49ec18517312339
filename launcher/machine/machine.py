"""What a machine is, as the planner sees it. Data only; `probe` fills it, `profiles/machines` stores it.

Sizes are bytes. An unknown is None, never 0 or -1: a probe that failed leaves None and a sentence in
`Machine.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_DEVICES = 16
"""Accelerators llama.cpp takes at most (GGML_CUDA_MAX_DEVICES in ggml-cuda.h, llama_max_devices)."""

MAX_CPUS = 8192
"""Logical CPUs a Linux kernel takes at most (CONFIG_NR_CPUS, arch/x86/Kconfig)."""


class Backend(StrEnum):
    """llama.cpp's backend families, spelled as its device names begin (`CUDA0`, `Vulkan1`)."""

    CUDA = "cuda"
    HIP = "hip"
    VULKAN = "vulkan"
    METAL = "metal"
    SYCL = "sycl"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How a device hangs on the host: the PCI Express generation that card and slot can both do (an idle card
    drops to a lower one), and the lanes as negotiated (an x16 card in an x4 slot has 4)."""

    pcie_generation: int | None
    pcie_width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator. `id` is llama.cpp's own name for it (`CUDA0`), in llama.cpp's own order.

    `total_bytes` and `free_bytes` are what the driver reports, before llama.cpp takes its own context. A
    device that `shares_host_memory` has no memory of its own: its bytes are the host's and are counted
    there, once. Only its `carve_out_bytes`, which the firmware took from the operating system, are its own:
    they are part of `total_bytes` and not of the machine's `ram_total_bytes`.
    """

    id: str
    backend: Backend
    name: str
    total_bytes: int
    free_bytes: int | None
    shares_host_memory: bool = False
    carve_out_bytes: int = 0
    uuid: str | None = None
    link: Link | None = None
    compute_capability: str | None = None
    driver: str | None = None
    display: bool | None = None

    @property
    def lies_in_ram(self) -> bool:
        """Whether what it holds is taken from the host's memory: of GPUs that share it, and of Mesa's software GPU,
        which reports a memory of its own."""
        return self.shares_host_memory or "llvmpipe" in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """`affinity` is the number of logical CPUs this process may run on; `physical_cores` and
    `performance_cores` count the cores those CPUs belong to, `logical_cores` all CPUs of the host. `quota` is
    the cgroup's CPU limit in cores (2.5), None where there is none. `isa` holds the flags that ggml compiles
    for, in its own spelling (`AVX2`, `AVX512`, `AVX512_VNNI`, `AMX_INT8`, `NEON`, …)."""

    name: str | None
    physical_cores: int | None
    performance_cores: int | None
    logical_cores: int
    affinity: int
    quota: float | None
    isa: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPool:
    """One NUMA node: its memory and the logical CPUs beside it. Page cache counts as free, as it does in
    MemAvailable: a model read once would otherwise make its node look full."""

    node: int
    total_bytes: int
    free_bytes: int | None
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """Where the model store lives. `type` as /proc/mounts spells it."""

    path: str
    type: str | None
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A whole host. `ram_limit_bytes` is the tightest cgroup limit above us, None where there is none;
    `ram_available_bytes` already respects it (see machine.probe.host). `ram_bandwidth` is in bytes/s, all sockets
    together: as named (channels x MT/s x 8) or measured."""

    os: str
    arch: str
    cpu: Cpu
    ram_total_bytes: int
    ram_available_bytes: int
    ram_limit_bytes: int | None
    nodes: tuple[MemoryPool, ...]
    devices: tuple[Device, ...]
    store: Filesystem | None
    notes: tuple[str, ...] = ()
    ram_bandwidth: int | None = None


def pinned_order(devices: Iterable[Device]) -> tuple[tuple[str, str], ...]:
    """The environment under which llama.cpp's `CUDA0`, `CUDA1`, … are these very devices, in this order.

    CUDA_VISIBLE_DEVICES takes UUIDs and keeps their order (CUDA C++ Programming Guide, environment
    variables), which settles what CUDA_DEVICE_ORDER leaves open; all CUDA devices must be given, or the
    numbers shift. Empty where a UUID is unknown, and for other backends: they have no such variable.
    """
    uuids = [device.uuid for device in devices if device.backend is Backend.CUDA]
    known = [uuid for uuid in uuids if uuid is not None]
    if not known or len(known) < len(uuids):
        return ()
    return (("CUDA_VISIBLE_DEVICES", ",".join(known)),)


def parse_cpu_list(text: str) -> tuple[int, ...] | None:
    """The kernel's list format, `"0-3,8"` -> (0, 1, 2, 3, 8); None for anything else, or beyond MAX_CPUS."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if not (_is_number(first) and (not dash or _is_number(last))):
            return () if not text.strip() else None
        low, high = int(first), int(last or first)
        if not low <= high < MAX_CPUS:
            return None
        cpus.extend(range(low, high + 1))
        if len(cpus) > MAX_CPUS:  # the same ranges over and over
            return None
    return tuple(cpus)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10  # int() refuses thousands of digits


def format_cpu_list(cpus: Iterable[int]) -> str:
    """(0, 1, 2, 3, 8) -> `"0-3,8"`."""
    runs: list[tuple[int, int]] = []
    for cpu in cpus:
        if runs and runs[-1][1] + 1 == cpu:
            runs[-1] = (runs[-1][0], cpu)
        else:
            runs.append((cpu, cpu))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
