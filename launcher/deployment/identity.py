"""Which process is meant: pid and start time, boot and host, so that a reused pid is never mistaken for it."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process, once. `start_time` is in seconds since boot on Linux (it does not move when the clock is
    set), since the epoch elsewhere. `boot_id` is None where the system has none."""

    pid: int
    start_time: float
    boot_id: str | None
    hostname: str


class Presence(StrEnum):
    RUNNING = "running"
    GONE = "gone"
    OTHER_HOST = "other-host"


def identify(pid: int) -> ProcessId | None:
    """The process that has `pid` now, a zombie too; None when there is none."""
    found = _look_up(pid)
    if found is None:
        return None
    return ProcessId(pid=pid, start_time=found[0], boot_id=_boot_id(), hostname=socket.gethostname())


def lives(pid: int) -> bool:
    """Somebody has `pid`, and is no zombie."""
    found = _look_up(pid)
    return found is not None and not found[1]


def find_presence(process: ProcessId) -> Presence:
    """Whether that very process still runs. A zombie is gone: it holds no memory and no port."""
    found = _look_up(process.pid)
    if found is not None and is_here(process):
        return Presence.GONE if found[1] else Presence.RUNNING
    if socket.gethostname() != process.hostname:
        return Presence.OTHER_HOST
    return Presence.GONE


def is_here(process: ProcessId) -> bool:
    """It exists on this host, as a zombie perhaps: its pid is still its own."""
    found = _look_up(process.pid)
    return found is not None and found[0] == process.start_time and _boot_id() == process.boot_id


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _look_up(pid: int) -> tuple[float, bool] | None:
    """(start time, is a zombie) of whoever has `pid` now."""
    if sys.platform != "linux":
        try:
            seen = psutil.Process(pid)
            return seen.create_time(), seen.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # proc(5): the name in parentheses may hold anything; state is field 3, starttime field 22, in ticks
    fields = stat.rpartition(")")[2].split()
    # num_threads is field 20: while threads are left, a zombie leader still has memory, ports and no status
    return int(fields[19]) / os.sysconf("SC_CLK_TCK"), fields[0] in "ZX" and int(fields[17]) <= 1
