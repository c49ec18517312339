"""What a machine is, as the planner sees it. Data only; `probe` fills it, `profiles/machines` stores it.

Sizes are bytes. An unknown is None, never 0 or -1: a probe that failed leaves None and a sentence in
`Machine.notes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
    """How a device hangs on the host: PCI Express generation and lanes, as negotiated at their best."""

    pcie_generation: int | None
    pcie_width: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator. `id` is llama.cpp's own name for it (`CUDA0`), in llama.cpp's own order.

    `total_bytes` and `free_bytes` are what the driver reports. A device that `shares_host_memory` has no
    memory of its own: its bytes are the host's and are counted there, once.
    """

    id: str
    backend: Backend
    name: str
    total_bytes: int
    free_bytes: int | None
    shares_host_memory: bool = False
    uuid: str | None = None
    link: Link | None = None
    compute_capability: str | None = None
    driver: str | None = None
    display: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """`quota` is the cgroup's CPU limit in cores (2.5), None where there is none. `isa` holds the flags that
    ggml compiles for, in its own spelling (`AVX2`, `AVX512`, `AVX512_VNNI`, `AMX_INT8`, `NEON`, …)."""

    name: str | None
    physical_cores: int | None
    performance_cores: int | None
    logical_cores: int
    affinity: int
    quota: float | None
    isa: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPool:
    """One NUMA node: its memory and the logical CPUs beside it."""

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
    `ram_available_bytes` already respects it (see probe.host)."""

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
