"""Represent a machine as the planner sees it. `probe` fills it, `profiles/machines` stores it.

Sizes are bytes. An unknown is None, never 0 or -1: a probe that failed leaves None and a sentence in
`Machine.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_DEVICES = (
    16  # accelerators that llama.cpp takes (GGML_CUDA_MAX_DEVICES in ggml-cuda.h, llama_max_devices)
)
MAX_CPUS = 8192  # logical CPUs that a Linux kernel takes (CONFIG_NR_CPUS, arch/x86/Kconfig)


class Backend(StrEnum):
    """llama.cpp's backend families."""

    CUDA = "cuda"
    HIP = "hip"
    VULKAN = "vulkan"
    METAL = "metal"
    SYCL = "sycl"
    CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The PCI Express link between a device and the host."""

    pcie_generation: (
        int | None
    )  # the highest that card and slot can both do; an idle card drops to a lower one
    pcie_width: int | None  # lanes as negotiated: an x16 card in an x4 slot has 4
    rate: int | None = None  # bytes/s that were copied to the device from page-locked memory, if measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The place of a device on another machine, behind a ggml-rpc-server."""

    endpoint: str  # host:port, as `--rpc` has it
    index: int = 0  # among that server's devices

    @property
    def buffer_name(self) -> str:
        """The name of its buffer type, which `-ot` takes (ggml_backend_rpc_buffer_type, ggml-rpc.cpp)."""
        return f"RPC{self.index}[{self.endpoint}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, with the memory its driver reports before llama.cpp takes its own context."""

    id: str  # llama.cpp's own name for it, CUDA0, in llama.cpp's own order; RPC0 on a peer
    backend: Backend  # of a device on a peer: what computes there, which may be the processor
    name: str
    total_bytes: int
    free_bytes: int | None
    # its bytes are the host's, and are counted there, once; only the carve-out, which the firmware took
    # from the operating system, is its own: part of `total_bytes`, not of the machine's `ram_total_bytes`
    shares_host_memory: bool = False
    carve_out_bytes: int = 0
    uuid: str | None = None
    link: Link | None = None
    compute_capability: str | None = None
    driver: str | None = None
    kernel_driver: str | None = None  # of an integrated GPU whose memory it decides: i915, xe
    display: bool | None = None
    peer: Peer | None = None  # None: it is in this machine

    @property
    def buffer_name(self) -> str:
        """llama.cpp's name for its memory."""
        return self.id if self.peer is None else self.peer.buffer_name

    @property
    def label(self) -> str:
        """Its name, and where it is."""
        return self.name if self.peer is None else f"{self.name} at {self.peer.endpoint}"

    @property
    def is_software(self) -> bool:
        """True for Mesa's software GPU, which computes on the processor."""
        return "llvmpipe" in self.name

    @property
    def lies_in_ram(self) -> bool:
        """True if its data take memory of the host."""
        # Mesa's software GPU reports a memory of its own
        return self.peer is None and (self.shares_host_memory or self.is_software)


DevicesAndNotes = tuple[tuple[Device, ...], tuple[str, ...]]  # notes are sentences about the devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor, and what this process may use of it."""

    name: str | None
    physical_cores: int | None  # of the CPUs in `affinity`
    performance_cores: int | None  # of the CPUs in `affinity`
    logical_cores: int  # all CPUs of the host
    affinity: int  # logical CPUs that this process may run on
    quota: float | None  # the cgroup's CPU limit in cores (2.5), None without one
    isa: tuple[str, ...]  # flags that ggml compiles for, in its spelling: AVX2, AVX512_VNNI, AMX_INT8, NEON


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPool:
    """One NUMA node: its memory and the logical CPUs beside it."""

    node: int
    total_bytes: int
    free_bytes: (
        int | None
    )  # with page cache, as in MemAvailable: a model once read would make its node look full
    cpus: tuple[int, ...]


FAULT_BYTES = 128 << 10
"""Linux reads so much at a page fault (mm/readahead.c, VM_READAHEAD_PAGES)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filesystem:
    """The file system of the model store."""

    path: str
    type: str | None  # as /proc/mounts spells it
    total_bytes: int
    free_bytes: int
    fault_rate: int | None = None  # bytes/s of random reads of the size of a page fault, in a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRatio:
    """How much faster than forecast models like the one at hand were, on these processors."""

    processors: tuple[str, ...]  # `host`, `CUDA0`, …: those that compute
    decode: float
    prefill: float
    why: str  # what was measured, and when


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    os: str
    arch: str
    cpu: Cpu
    ram_total_bytes: int
    ram_available_bytes: int  # within the limit too
    ram_limit_bytes: int | None  # the tightest cgroup limit above us, None without one
    nodes: tuple[MemoryPool, ...]
    devices: tuple[Device, ...]
    store: Filesystem | None
    notes: tuple[str, ...] = ()
    # of the whole host, where `ram_available_bytes` is less because of a limit; None: the same, or not known
    host_available_bytes: int | None = None
    ram_bandwidth: int | None = None  # bytes/s of all sockets, as named: channels x MT/s x 8
    ram_read_rate: int | None = None  # bytes/s that were read by all cores in a measurement
    node_rates: tuple[tuple[str, int], ...] = ()  # bytes/s that a NUMA node's cores read of its memory
    core_rates: tuple[tuple[str, int], ...] = ()  # bytes/s of weights that a core multiplies, by ggml type
    core_rate: float | None = None  # the same, of the model that is planned
    attention_rates: tuple[tuple[str, int], ...] = ()  # cached tokens of a head/s of a core, by type and head
    speed_ratios: tuple[SpeedRatio, ...] = ()  # measured here, of the model that is planned

    @property
    def ram_bytes(self) -> int:
        """All RAM that may be used here: the machine's, or the cgroup's limit if that is less."""
        limit = self.ram_limit_bytes
        return self.ram_total_bytes if limit is None else min(self.ram_total_bytes, limit)


def pinned_order(devices: Iterable[Device]) -> tuple[tuple[str, str], ...]:
    """Return the environment under which llama.cpp's `CUDA0`, `CUDA1`, … are these devices, in this order.

    Empty if a UUID is unknown, and for other backends: they have no such variable.
    """
    # CUDA_VISIBLE_DEVICES takes UUIDs and keeps their order (CUDA C++ Programming Guide, environment
    # variables), which settles what CUDA_DEVICE_ORDER leaves open; all CUDA devices must be given, or the
    # numbers shift
    own = [device for device in devices if device.peer is None]
    uuids = [device.uuid for device in own if device.backend is Backend.CUDA]
    known = [uuid for uuid in uuids if uuid is not None]
    if not known or len(known) < len(uuids):
        return ()
    return (("CUDA_VISIBLE_DEVICES", ",".join(known)),)


def parse_cpu_list(text: str) -> tuple[int, ...] | None:
    """Parse the kernel's list format, `"0-3,8"` -> (0, 1, 2, 3, 8); None if malformed or too high."""
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
    """Format CPUs as the kernel does: (0, 1, 2, 3, 8) -> `"0-3,8"`."""
    runs: list[tuple[int, int]] = []
    for cpu in cpus:
        if runs and runs[-1][1] + 1 == cpu:
            runs[-1] = (runs[-1][0], cpu)
        else:
            runs.append((cpu, cpu))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def format_device_ids(ids: Iterable[str]) -> str:
    """Join devices with commas, three in a row as a range: `"CUDA0-2, CUDA5"`."""
    runs: list[list[tuple[str, int]]] = []  # of (prefix, number) that follow each other
    for name in ids:
        prefix = name.rstrip("0123456789")
        digits = name[len(prefix) :]
        if not _is_number(digits) or digits != str(int(digits)):
            runs.append([(name, -1)])
        elif runs and runs[-1][-1] == (prefix, int(digits) - 1):
            runs[-1].append((prefix, int(digits)))
        else:
            runs.append([(prefix, int(digits))])
    return ", ".join(_run_of_devices(run) for run in runs)


def _run_of_devices(run: list[tuple[str, int]]) -> str:
    if len(run) > 2:
        return f"{run[0][0]}{run[0][1]}-{run[-1][1]}"
    return ", ".join(prefix if number < 0 else f"{prefix}{number}" for prefix, number in run)
