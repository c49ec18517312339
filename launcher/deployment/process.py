"""llama-server as a process: start it so that it outlives us, know it again later, end its whole tree.

Nothing ties it to the launcher: no pipe, no terminal, no inherited descriptor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from launcher.deployment.identity import Presence, ProcessId, find_presence, identify, is_here, lives
from launcher.deployment.log_file import open_log
from launcher.errors import EngineFailed, NotAllowed, NotFound, TryAgain

MARKER = "LAUNCHER_DEPLOYMENT"
"""Variable every process of a deployment inherits; its value names the deployment. Finds what left the tree."""

GRACE_S = 10.0
"""Between SIGTERM and SIGKILL: llama-server's own router gives its children as long (stop-timeout)."""

KILL_S = 10.0
"""After SIGKILL: only a process stuck inside a driver needs longer, and waiting does not help it."""

_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What a process did so far: bytes read through system calls (None where the system does not tell),
    bytes resident, CPU seconds."""

    read_bytes: int | None
    resident_bytes: int
    cpu_s: float


def start_process(
    argv: Sequence[str], env: Mapping[str, str], log_path: Path, *, marker: str, cwd: Path = Path("/")
) -> ProcessId:
    """Start `argv` in a session of its own, stdin closed, stdout and stderr appended to the log at `log_path`.

    `marker` names the deployment in the environment of the whole tree. Raises NotFound, NotAllowed or
    EngineFailed when the program cannot be run, TryAgain when the log cannot be written.
    """
    try:
        log = open_log(log_path)
    except OSError as error:
        raise TryAgain(
            f"the log {log_path} cannot be written: {error.strerror}", hint=f"look at {log_path.parent}"
        ) from error
    try:
        child = _Child(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**env, MARKER: marker},
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise cannot_run(argv[0], error) from error
    finally:
        os.close(log)
    process = identify(child.pid)
    if process is None:  # impossible for a child nobody has waited for, short of a SIGCHLD set to ignore
        raise EngineFailed(f"{argv[0]} vanished as it started", hint="run it by hand")
    return process


def reap_process(process: ProcessId) -> int | None:
    """The exit status (negative: the signal) of a child of ours that has ended; None for anyone else's, and
    while it runs. It can be asked once."""
    if not is_here(process):
        return None
    with contextlib.suppress(ChildProcessError):
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None
    return None


def stop_process(process: ProcessId | None, *, marker: str, grace_s: float = GRACE_S) -> bool:
    """End the process and everything it started; whether anything was alive.

    SIGTERM goes once to the process group (for llama-server a second one means exit(1)) and to descendants
    that left it, SIGKILL to what is left after `grace_s`, or at once on Ctrl-C, which is raised afterwards.
    Raises EngineFailed naming the pids that even SIGKILL did not end.
    """
    members = _family(process, marker)
    if not members:
        _reap_quietly(process)
        return False
    try:
        _terminate(members, process)
        _wait(members, grace_s)
    finally:
        _kill(members, process, marker)
        _reap_quietly(process)
    return True


def read_activity(process: ProcessId) -> Activity | None:
    """What it and its descendants (an engine may be a wrapper script) did so far; None when it is gone."""
    seen = [found for member in process_tree(process) if (found := _activity_of(member)) is not None]
    if not seen:
        return None
    reads = [found.read_bytes for found in seen if found.read_bytes is not None]
    return Activity(
        read_bytes=sum(reads) if reads else None,
        resident_bytes=sum(found.resident_bytes for found in seen),
        cpu_s=sum(found.cpu_s for found in seen),
    )


def process_tree(process: ProcessId) -> tuple[psutil.Process, ...]:
    """The process and its living descendants; empty when it is gone."""
    if find_presence(process) is not Presence.RUNNING:
        return ()
    try:
        leader = psutil.Process(process.pid)
        return (leader, *leader.children(recursive=True))
    except psutil.Error:
        return ()


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt, so that both end the foreground the same way. Main thread only."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Child(subprocess.Popen[bytes]):
    """It outlives us on purpose, so leaving it behind is no ResourceWarning; `reap` alone waits for it."""

    def __del__(self) -> None:
        """Nothing to release: no pipes."""


def cannot_run(program: str, error: OSError) -> EngineFailed | NotFound | NotAllowed:
    """Why a program could not be started, as one sentence."""
    if isinstance(error, FileNotFoundError):
        return NotFound(f"the engine {program} does not exist", hint="launcher engine list")
    if isinstance(error, PermissionError):
        return NotAllowed(f"the engine {program} may not be run", hint=f"chmod +x {program}")
    return EngineFailed(
        f"the engine {program} cannot be run here: {error.strerror}", hint="launcher engine build"
    )


def _family(process: ProcessId | None, marker: str) -> list[psutil.Process]:
    """Everyone alive in the deployment: the leader, its session, its descendants, and whoever carries the
    marker. The leader's pid counts as a session only while it is provably the leader's."""
    found: dict[int, psutil.Process] = {}
    leader = process.pid if process is not None and is_here(process) else None
    if leader is not None:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(leader)
            found = {seen.pid: seen for seen in (root, *root.children(recursive=True))}
    for seen in psutil.process_iter():
        if seen.pid not in found and (_in_session(seen.pid, leader) or _carries(seen, marker)):
            found[seen.pid] = seen
    found.pop(os.getpid(), None)
    return [seen for seen in found.values() if _alive(seen)]


def _activity_of(seen: psutil.Process) -> Activity | None:
    try:
        with seen.oneshot():
            times = seen.cpu_times()
            resident = seen.memory_info().rss
            read = None if sys.platform == "darwin" else seen.io_counters().read_chars
    except (psutil.Error, OSError):
        return None
    return Activity(read_bytes=read, resident_bytes=resident, cpu_s=times.user + times.system)


def _in_session(pid: int, leader: int | None) -> bool:
    if leader is None:
        return False
    try:
        return os.getsid(pid) == leader
    except OSError:
        return False


def _carries(seen: psutil.Process, marker: str) -> bool:
    try:
        return bool(seen.environ().get(MARKER) == marker)
    except (psutil.Error, OSError):
        return False


def _alive(seen: psutil.Process) -> bool:
    try:
        return bool(seen.is_running()) and lives(seen.pid)
    except psutil.Error:
        return False


def _terminate(members: Iterable[psutil.Process], process: ProcessId | None) -> None:
    group = process.pid if process is not None and is_here(process) else None
    if group is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
    for seen in members:
        with contextlib.suppress(psutil.Error, OSError):
            if group is None or os.getpgid(seen.pid) != group:
                seen.terminate()


def _kill(members: list[psutil.Process], process: ProcessId | None, marker: str) -> None:
    """SIGKILL until nobody is left: a process may have forked between the look and the signal."""
    deadline = time.monotonic() + KILL_S
    while left := [seen for seen in members if _alive(seen)] or _family(process, marker):
        if time.monotonic() > deadline:
            pids = ", ".join(str(seen.pid) for seen in left)
            raise EngineFailed(
                f"process {pids} did not end within {KILL_S:.0f} s of SIGKILL: it is stuck in the kernel",
                hint="look at dmesg; a driver that hangs needs a reboot",
            )
        for seen in left:
            with contextlib.suppress(psutil.Error):
                seen.kill()
        _wait(left, 1.0)


def _wait(members: Iterable[psutil.Process], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while any(_alive(seen) for seen in members) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _reap_quietly(process: ProcessId | None) -> None:
    if process is not None:
        reap_process(process)
