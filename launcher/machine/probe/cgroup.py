"""Read the memory and CPU limits of our cgroup and of all cgroups above it."""

# Both versions count, also side by side (v1 controllers and an empty v2 tree, as systemd's hybrid mode
# mounts them). Source: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.machine.probe.proc_files import KernelFiles, parse_mount_path

# v1 writes "no limit" as PAGE_COUNTER_MAX pages, 9223372036854771712; no real limit comes near this
_NO_LIMIT_V1 = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLimits:
    """The tightest limits over all levels; None means no limit."""

    memory_bytes: int | None
    memory_headroom_bytes: int | None  # left below the limit; page cache is left, the kernel gives it back
    cpus: float | None  # in cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    point: str
    root: str  # the cgroup that shows at `point`
    controllers: frozenset[str]  # empty for v2


def read_limits(files: KernelFiles) -> CgroupLimits:
    """Read our limits; all are None without a readable cgroup."""
    mounts = parse_cgroup_mounts(files.text("/proc/self/mountinfo") or "")
    groups = parse_cgroup_paths(files.text("/proc/self/cgroup") or "")
    limits: list[int] = []
    headrooms: list[int] = []
    quotas: list[float] = []
    for folder, is_v2 in _levels(mounts, groups, "memory"):
        limit, used = _memory_v2(files, folder) if is_v2 else _memory_v1(files, folder)
        if limit is not None:
            limits.append(limit)
            headrooms.append(max(0, limit - used))
    for folder, is_v2 in _levels(mounts, groups, "cpu"):
        quota = _quota_v2(files, folder) if is_v2 else _quota_v1(files, folder)
        if quota is not None:
            quotas.append(quota)
    return CgroupLimits(
        memory_bytes=min(limits, default=None),
        memory_headroom_bytes=min(headrooms, default=None),
        cpus=min(quotas, default=None),
    )


def parse_cgroup_mounts(mountinfo: str) -> tuple[Mount, ...]:
    mounts = []
    # 31 23 0:28 ROOT POINT OPTIONS … - TYPE SOURCE SUPER
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if not dash or len(fields) < 6 or rest[0] not in {"cgroup", "cgroup2"}:
            continue
        controllers = frozenset(rest[2].split(",")) if rest[0] == "cgroup" and len(rest) > 2 else frozenset()
        if rest[0] == "cgroup2" or controllers & {"memory", "cpu"}:
            root, point = parse_mount_path(fields[3]), parse_mount_path(fields[4])
            mounts.append(Mount(point=point, root=root, controllers=controllers))
    return tuple(mounts)


def parse_cgroup_paths(text: str) -> dict[str, str]:
    """Parse /proc/self/cgroup (`4:memory:/a`, `0::/a`): path by controller, v2 under the empty name."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, colon, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if colon and second and number.isdigit():
            paths |= dict.fromkeys(controllers.split(","), path)
    return paths


def _levels(mounts: tuple[Mount, ...], groups: dict[str, str], controller: str) -> Iterator[tuple[str, bool]]:
    """Yield the folder of our cgroup and of all above it up to the mount, each with True for v2."""
    for mount in mounts:
        is_v2 = not mount.controllers
        path = groups.get("" if is_v2 else controller)
        if path is None or not (is_v2 or controller in mount.controllers):
            continue
        inside = _relative_to(path, mount.root)
        while inside:
            yield f"{mount.point}/{inside}", is_v2
            inside = inside.rpartition("/")[0]
        yield mount.point, is_v2


def _relative_to(path: str, root: str) -> str:
    # empty if it lies outside: a container whose cgroup namespace starts at its own group sees `/../..`; a
    # container without a namespace mounts its group as the root
    path, root = path.strip("/"), root.strip("/")
    if root:
        if path != root and not path.startswith(f"{root}/"):
            return ""
        path = path[len(root) :].strip("/")
    return "" if ".." in path.split("/") else path


def _memory_v2(files: KernelFiles, folder: str) -> tuple[int | None, int]:
    # memory.high counts like memory.max: above it every allocation is slowed to a crawl
    limits = [files.number(f"{folder}/memory.{name}") for name in ("max", "high")]
    used = files.number(f"{folder}/memory.current") or 0
    stat = _stat(files.text(f"{folder}/memory.stat") or "")
    cache = stat.get("inactive_file", 0) + stat.get("active_file", 0) + stat.get("slab_reclaimable", 0)
    return min((limit for limit in limits if limit is not None), default=None), max(0, used - cache)


def _memory_v1(files: KernelFiles, folder: str) -> tuple[int | None, int]:
    limit = files.number(f"{folder}/memory.limit_in_bytes")
    used = files.number(f"{folder}/memory.usage_in_bytes") or 0
    stat = _stat(files.text(f"{folder}/memory.stat") or "")
    cache = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
    return None if limit is None or limit >= _NO_LIMIT_V1 else limit, max(0, used - cache)


def _stat(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}


def _quota_v2(files: KernelFiles, folder: str) -> float | None:
    # QUOTA PERIOD in microseconds; `max` for no quota
    match = re.fullmatch(r"(\d+) (\d+)", files.text(f"{folder}/cpu.max") or "")
    return _cores(int(match[1]), int(match[2])) if match else None


def _quota_v1(files: KernelFiles, folder: str) -> float | None:
    quota, period = (files.number(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return None if quota is None or period is None else _cores(quota, period)


def _cores(quota: int, period: int) -> float | None:
    return quota / period if quota > 0 and period > 0 else None
