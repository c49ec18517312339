"""The host without its accelerators: processor, memory and its limits, NUMA nodes, and where models are stored."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.machine import Cpu, Filesystem, MemoryPool, parse_cpu_list
from launcher.machine.probe.apple import read_sysctl
from launcher.machine.probe.cgroup import CgroupLimits, read_limits
from launcher.machine.probe.cpu import parse_apple_cpu, read_cpu
from launcher.machine.probe.proc_files import KernelFiles, parse_meminfo, parse_mount_path
from launcher.system.cpus import usable_cpus
from launcher.units import format_bytes

_NODES = "/sys/devices/system/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The fields of `Machine` that are the host's own, with the sentences about them."""

    cpu: Cpu
    ram_total_bytes: int
    ram_available_bytes: int
    ram_limit_bytes: int | None
    nodes: tuple[MemoryPool, ...]
    notes: tuple[str, ...]


def read_host(files: KernelFiles) -> Host:
    """Never raises; what /proc does not say, psutil is asked."""
    if sys.platform == "darwin":
        sysctl = read_sysctl()
        total, available = _psutil_memory()
        memsize = sysctl.get("hw.memsize", "")
        return Host(
            cpu=parse_apple_cpu(sysctl),
            ram_total_bytes=int(memsize) if memsize.isdigit() else total,
            ram_available_bytes=available,
            ram_limit_bytes=None,
            nodes=(),
            notes=(),
        )
    notes: list[str] = []
    limits = read_limits(files)
    memory = parse_meminfo(files.text("/proc/meminfo") or "")
    if "MemTotal" not in memory or "MemAvailable" not in memory:
        notes.append("/proc/meminfo does not tell total and available memory: psutil's figures are used")
        memory["MemTotal"], memory["MemAvailable"] = _psutil_memory()
    nodes, doubts = believable_nodes(read_nodes(files), memory["MemTotal"])
    notes += doubts
    if len(nodes) > 1 and files.number("/proc/sys/kernel/numa_balancing") == 1:
        notes.append(
            f"{len(nodes)} NUMA nodes with automatic balancing on, which slows CPU inference: "
            "`sysctl kernel.numa_balancing=0` turns it off"
        )
    limit, available = apply_limits(limits, memory["MemTotal"], memory["MemAvailable"])
    if limit is not None:
        notes.append(
            f"the cgroup limits memory to {format_bytes(limit)} of the host's {format_bytes(memory['MemTotal'])}"
        )
    return Host(
        cpu=read_cpu(files, usable_cpus(), limits.cpus),
        ram_total_bytes=memory["MemTotal"],
        ram_available_bytes=available,
        ram_limit_bytes=limit,
        nodes=nodes,
        notes=tuple(notes),
    )


def apply_limits(limits: CgroupLimits, total: int, available: int) -> tuple[int | None, int]:
    """The limit, None where it is no tighter than the machine itself, and the memory that both leave."""
    limit = limits.memory_bytes if limits.memory_bytes is not None and limits.memory_bytes < total else None
    if limits.memory_headroom_bytes is not None:
        available = min(available, limits.memory_headroom_bytes)
    return limit, max(0, available)


def read_nodes(files: KernelFiles) -> tuple[MemoryPool, ...]:
    """The NUMA nodes with memory or CPUs; empty where the kernel has no NUMA."""
    nodes = []
    for name in files.names(_NODES, r"node\d+"):
        memory = parse_meminfo(files.text(f"{_NODES}/{name}/meminfo") or "")
        cpus = parse_cpu_list(files.text(f"{_NODES}/{name}/cpulist") or "") or ()
        if "MemTotal" in memory and (memory["MemTotal"] or cpus):
            nodes.append(
                MemoryPool(
                    node=int(name.removeprefix("node")),
                    total_bytes=memory["MemTotal"],
                    free_bytes=_node_free(memory),
                    cpus=cpus,
                )
            )
    return tuple(nodes)


def believable_nodes(
    nodes: tuple[MemoryPool, ...], total: int
) -> tuple[tuple[MemoryPool, ...], tuple[str, ...]]:
    """The nodes, or none and a note where they do not add up to the host's memory: some virtual machines and
    containers show a /proc/meminfo that is not the kernel's own, and a plan per node would be wrong."""
    together = sum(node.total_bytes for node in nodes)
    if not nodes or abs(together - total) <= total // 10:
        return nodes, ()
    note = f"the NUMA nodes hold {format_bytes(together)}, the host {format_bytes(total)}: the nodes are not used"
    return (), (note,)


def _node_free(memory: dict[str, int]) -> int | None:
    """Free memory and page cache of a node, which has no MemAvailable of its own."""
    if "MemFree" not in memory:
        return None
    cache = sum(memory.get(name, 0) for name in ("Active(file)", "Inactive(file)", "SReclaimable"))
    return min(memory["MemFree"] + cache, memory["MemTotal"])


def read_store(store: Path, files: KernelFiles) -> tuple[Filesystem | None, tuple[str, ...]]:
    """The filesystem that `store` is on or will be on: that of its nearest folder that exists. Free is what this
    user may write, without the blocks kept for root."""
    wanted = Path(os.path.abspath(store))  # noqa: PTH100 Path.absolute keeps `..`
    denied: tuple[str, ...] = ()
    for folder in (wanted, *wanted.parents):
        try:
            numbers = os.statvfs(folder)
            real = folder.resolve()
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: Path.resolve, a loop of links
            why = getattr(error, "strerror", None) or error
            denied = denied or (f"the model store {wanted} cannot be looked at: {folder}: {why}",)
            continue
        filesystem = Filesystem(
            path=str(wanted),
            type=parse_filesystem_type(files.text("/proc/self/mountinfo") or "", str(real)),
            total_bytes=numbers.f_blocks * numbers.f_frsize,
            free_bytes=numbers.f_bavail * numbers.f_frsize,
        )
        return filesystem, denied
    return None, denied or (f"the filesystem of the model store {wanted} is unknown",)


def parse_filesystem_type(mountinfo: str, path: str) -> str | None:
    """The type of the mount that `path` (absolute, links resolved) is on: the longest mount point above it, of
    those the last mounted."""
    best, best_type = "", None
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields = left.split(" ")
        if not dash or len(fields) < 6:
            continue
        point = parse_mount_path(fields[4]).rstrip("/")
        if (path == point or path.startswith(f"{point}/")) and len(point) >= len(best):
            best, best_type = point, right.split(" ")[0]
    return best_type


def _psutil_memory() -> tuple[int, int]:
    """Total and available bytes, as far as psutil knows this system."""
    import psutil  # noqa: PLC0415 only where /proc does not tell

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)
