"""Keep a llama-server from harming other programs. What the system does not allow is left out."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from launcher.deployment.identity import lives
from launcher.units import GIB

# proc(5): added to the kernel's badness of 0 to 1000. Half of the scale puts any model server before any
# desktop, and leaves others (1000) able to go first. Raising one's own score needs no privilege.
OOM_SCORE_ADJ = 500

_PR_SET_PDEATHSIG = 1  # prctl(2), linux/prctl.h


# RAM that a GPU's driver may take for each device, which no ledger holds. Seen: 1.9 GiB for PyTorch's first
# kernel on one GPU (pytorch/pytorch#12873) and 1.2 GiB (#106511), both with more kernels than llama.cpp has;
# 0.3 GiB of a software Vulkan driver that compiles its shaders (RssAnon, SmolLM2, less its planned buffers).
# Twice the largest: the limit is for a server that runs away, and must not end one that is well.
_DRIVER_BYTES = 4 * GIB


def memory_max(ram_bytes: int, total_bytes: int, *, n_devices: int = 0) -> int | None:
    """Return the memory limit of a server planned to take `ram_bytes`, GPUs in the host's memory included.

    None if that is all the machine has: such a limit protects nothing.
    """
    # A tenth and a GiB for what is not planned.
    limit = ram_bytes + ram_bytes // 10 + GIB + n_devices * _DRIVER_BYTES
    return limit if limit < total_bytes else None


def keep_to_ourselves() -> None:
    """Write files for the user alone, and leave no core: prompts are in both."""
    os.umask(0o077)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def before_exec(group: Path | None) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:  # in the child, between fork and exec
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it dies with us
        for path, text in (
            (Path("/proc/self/oom_score_adj"), str(OOM_SCORE_ADJ)),
            *(() if group is None else ((group / "cgroup.procs", "0"),)),
        ):
            with contextlib.suppress(OSError):
                path.write_text(text)

    return prepare


class MemoryGroup:
    """A memory cgroup beside (v2) or below (v1) our own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def n_killed(self) -> int | None:
        """Return how many processes the kernel killed in it for lack of memory."""
        return _kills(self.path)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.rmdir()


def make_group(name: str, limit_bytes: int, parent: Path | None = None) -> MemoryGroup | None:
    """Make a memory group in `parent` (None: found); None if the system does not allow it."""
    parent = parent or _parent_group()
    if parent is None:
        return None
    path = parent / f"launcher-{name}-{os.getpid()}"
    try:
        path.mkdir(exist_ok=True)
    except OSError:
        return None
    for limit in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError):
            if (path / limit).exists():
                (path / limit).write_text(str(limit_bytes))
                return MemoryGroup(path)
    with contextlib.suppress(OSError):
        path.rmdir()
    return None


def left_groups() -> tuple[Path, ...]:
    """Return the groups of supervisors that were killed, and so could not remove them."""
    parent = _parent_group()
    groups = sorted(parent.glob("launcher-*-*")) if parent is not None else []
    return tuple(path for path in groups if _is_left(path.name.rpartition("-")[2]))


def sweep_groups() -> None:
    # The kernel keeps a group in which something still runs.
    for path in left_groups():
        MemoryGroup(path).remove()


def _is_left(pid: str) -> bool:
    return pid.isdecimal() and not lives(int(pid))


def own_kills() -> int | None:
    own = _own_group()
    if own is None:
        return None
    return _kills(own[0])  # in the whole group, ours and the child's


def _parent_group() -> Path | None:
    own = _own_group()
    if own is None:
        return None
    folder, is_v2 = own
    # cgroup-v2.rst: a group that gives controllers to its children has no processes of its own, so ours
    # cannot have children. v1 has no such rule.
    if not is_v2:
        return folder if os.access(folder, os.W_OK) else None
    above = folder.parent
    try:
        given = (above / "cgroup.subtree_control").read_text().split()
    except OSError:
        return None
    return above if "memory" in given and os.access(above, os.W_OK) else None


def _own_group() -> tuple[Path, bool] | None:
    """Return the folder of our memory cgroup, and whether it is v2."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    places = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            places.append((Path("/sys/fs/cgroup") / path.lstrip("/"), True))
        elif "memory" in controllers.split(","):
            places.append((Path("/sys/fs/cgroup/memory") / path.lstrip("/"), False))
    marks = {True: "memory.current", False: "memory.usage_in_bytes"}
    return next(((folder, is_v2) for folder, is_v2 in places if (folder / marks[is_v2]).exists()), None)


def _kills(folder: Path) -> int | None:
    for name in ("memory.events", "memory.oom_control"):  # v2, v1
        with contextlib.suppress(OSError):
            words = (folder / name).read_text().split()
            return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else None
    return None
