"""Read the host without its accelerators: processor, memory, limits, NUMA nodes, the store's file system."""

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
    """The fields of `Machine` that are the host's own, with notes about them."""

    cpu: Cpu
    ram_total_bytes: int
    ram_available_bytes: int
    ram_limit_bytes: int | None
    nodes: tuple[MemoryPool, ...]
    notes: tuple[str, ...]
    host_available_bytes: int | None = None  # of all the host, where a limit leaves less


def read_host(files: KernelFiles) -> Host:
    """Read the host; psutil stands in for a /proc that tells nothing. Never raises."""
    return _read_mac() if sys.platform == "darwin" else _read_linux(files)


def _read_mac() -> Host:
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


def _read_linux(files: KernelFiles) -> Host:
    notes: list[str] = []
    limits = read_limits(files)
    memory = parse_meminfo(files.text("/proc/meminfo") or "")
    if "MemTotal" not in memory or "MemAvailable" not in memory:
        notes.append("/proc/meminfo does not tell total and available memory: psutil's figures are used")
        memory["MemTotal"], memory["MemAvailable"] = _psutil_memory()
    total, available = memory["MemTotal"], memory["MemAvailable"]
    nodes, shown = read_nodes(files), None
    if nodes and _is_mounted(files, "/proc/meminfo") and total < _sum_totals(nodes) * 9 // 10:
        # lxcfs shows an LXC its limit as MemTotal, sysfs has the host's nodes
        shown, total = total, _sum_totals(nodes)
        host_available = sum(node.free_bytes or 0 for node in nodes)
    else:
        host_available = available
    nodes, doubts = believable_nodes(nodes, total)
    notes += doubts
    if len(nodes) > 1 and files.number("/proc/sys/kernel/numa_balancing") == 1:
        notes.append(
            f"{len(nodes)} NUMA nodes with automatic balancing on, which slows CPU inference: "
            "`sysctl kernel.numa_balancing=0` turns it off"
        )
    limit, available = apply_limits(limits, total, available)
    if shown is not None:
        limit = shown if limit is None else min(limit, shown)
    if limit is not None:
        notes.append(f"the cgroup limits memory to {format_bytes(limit)} of the host's {format_bytes(total)}")
    return Host(
        cpu=read_cpu(files, usable_cpus(), limits.cpus),
        ram_total_bytes=total,
        ram_available_bytes=available,
        ram_limit_bytes=limit,
        nodes=nodes,
        notes=tuple(notes),
        host_available_bytes=None if limit is None else host_available,
    )


def _sum_totals(nodes: tuple[MemoryPool, ...]) -> int:
    return sum(node.total_bytes for node in nodes)


def _is_mounted(files: KernelFiles, path: str) -> bool:
    """Return True if something is mounted over a file."""
    points = (line.split(" ")[4:5] for line in (files.text("/proc/self/mountinfo") or "").splitlines())
    return any(point == [path] for point in points)


def apply_limits(limits: CgroupLimits, total: int, available: int) -> tuple[int | None, int]:
    """Return the limit (None if it is above the machine's memory) and the memory available within it."""
    limit = limits.memory_bytes if limits.memory_bytes is not None and limits.memory_bytes < total else None
    if limits.memory_headroom_bytes is not None:
        available = min(available, limits.memory_headroom_bytes)
    return limit, max(0, available)


def read_nodes(files: KernelFiles) -> tuple[MemoryPool, ...]:
    """Read the NUMA nodes with memory or CPUs; empty if the kernel has no NUMA."""
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
    """Return the nodes, or none and a note if they do not add up to the host's memory."""
    # some virtual machines and containers show a /proc/meminfo that is not the kernel's own: a plan per
    # node would be wrong
    together = sum(node.total_bytes for node in nodes)
    if not nodes or abs(together - total) <= total // 10:
        return nodes, ()
    note = f"the NUMA nodes hold {format_bytes(together)}, the host {format_bytes(total)}"
    return (), (f"{note}: the nodes are not used",)


def _node_free(memory: dict[str, int]) -> int | None:
    # a node has no MemAvailable of its own: free memory and page cache
    if "MemFree" not in memory:
        return None
    cache = sum(memory.get(name, 0) for name in ("Active(file)", "Inactive(file)", "SReclaimable"))
    return min(memory["MemFree"] + cache, memory["MemTotal"])


def read_store(store: Path, files: KernelFiles) -> tuple[Filesystem | None, tuple[str, ...]]:
    """Return the file system that `store` is on or will be on, and notes about it."""
    # a folder that does not exist will be on the file system of the nearest folder above it that does
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
            free_bytes=numbers.f_bavail * numbers.f_frsize,  # without the blocks kept for root
        )
        return filesystem, denied
    return None, denied or (f"the filesystem of the model store {wanted} is unknown",)


def parse_filesystem_type(mountinfo: str, path: str) -> str | None:
    """Return the type of the mount that `path` (absolute, links resolved) is on; None if it is unknown."""
    # the longest mount point above it; of two mounts at one point the later
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
    import psutil  # noqa: PLC0415 only where /proc does not tell

    memory = psutil.virtual_memory()
    return int(memory.total), int(memory.available)
