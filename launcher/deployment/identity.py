"""Identify a process for good: a pid alone may be reused."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import psutil

from launcher.system.json_object import JsonObject

_MAX_PID = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    pid: int
    start_time: (
        float  # seconds since boot on Linux (setting the clock does not change it), since the epoch elsewhere
    )
    boot_id: str | None  # None where the system has none
    hostname: str


class _Seen(NamedTuple):
    start_time: float
    is_zombie: bool


class Presence(StrEnum):
    RUNNING = "running"
    GONE = "gone"
    OTHER_HOST = "other-host"


def identify(pid: int) -> ProcessId | None:
    """Return the process that has `pid` now, a zombie too."""
    seen = _look_up(pid)
    if seen is None:
        return None
    return ProcessId(pid=pid, start_time=seen.start_time, boot_id=_boot_id(), hostname=socket.gethostname())


def lives(pid: int) -> bool:
    """Tell whether a process has `pid` and is no zombie."""
    seen = _look_up(pid)
    return seen is not None and not seen.is_zombie


def read_process(given: JsonObject) -> ProcessId:
    """Return the process in a record or claim. Raises Malformed."""
    return ProcessId(
        pid=given.whole("pid", 1, _MAX_PID),
        start_time=given.number("start_time"),
        boot_id=given.optional_text("boot_id"),
        hostname=given.text("hostname"),
    )


def is_frozen(pid: int) -> bool | None:
    """Tell whether a process is stopped (SIGSTOP); None if it cannot be seen."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return None


def find_presence(process: ProcessId) -> Presence:
    seen = _look_up(process.pid)
    if seen is not None and is_here(process):
        # A zombie holds no memory and no port.
        return Presence.GONE if seen.is_zombie else Presence.RUNNING
    if socket.gethostname() != process.hostname:
        return Presence.OTHER_HOST
    return Presence.GONE


def is_here(process: ProcessId) -> bool:
    """Tell whether the pid is still the process's own, even as a zombie."""
    seen = _look_up(process.pid)
    return seen is not None and seen.start_time == process.start_time and _boot_id() == process.boot_id


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _look_up(pid: int) -> _Seen | None:
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            return _Seen(process.create_time(), process.status() == psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # proc(5): the name in parentheses may hold anything; state is field 3, starttime field 22, in ticks
    fields = stat.rpartition(")")[2].split()
    # num_threads is field 20: while threads are left, a zombie leader still has memory, ports and no status
    is_zombie = fields[0] in "ZX" and int(fields[17]) <= 1
    return _Seen(int(fields[19]) / os.sysconf("SC_CLK_TCK"), is_zombie)
