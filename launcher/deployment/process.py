"""Start a process that outlives the launcher, and end its whole tree."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.deployment.identity import Presence, ProcessId, find_presence, identify, is_here, lives
from launcher.deployment.log_file import open_log
from launcher.errors import EngineFailed, NotAllowed, NotFound, TryAgain

# Variable that every process of a deployment inherits, with the path of its record: finds those that left the
# tree.
MARKER = "LAUNCHER_DEPLOYMENT"


# From SIGTERM to SIGKILL: llama-server's own router gives its children as long (stop-timeout).
GRACE_S = 10.0


# After SIGKILL. Only a process stuck inside a driver takes longer, and waiting does not help then.
KILL_S = 10.0

_POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    read_bytes: int | None  # through system calls; None if the system does not say
    resident_bytes: int
    cpu_s: float


def start_process(
    argv: Sequence[str], env: Mapping[str, str], log_path: Path, *, marker: str, cwd: Path = Path("/")
) -> ProcessId:
    """Start `argv` in a session of its own, stdin closed, stdout and stderr appended to `log_path`.

    Raises NotFound, NotAllowed or EngineFailed if the program cannot be run, TryAgain if the log cannot be
    written.
    """
    try:
        log = open_log(log_path)
    except OSError as error:
        raise TryAgain(
            f"the log {log_path} cannot be written: {error.strerror}", hint=f"ls -ld {log_path.parent}"
        ) from error
    try:
        child = _Child(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**env, MARKER: marker},
            cwd=cwd,
            start_new_session=True,  # nothing ties it to the launcher: no pipe, terminal or descriptor
        )
    except OSError as error:
        raise cannot_run(argv[0], error) from error
    finally:
        os.close(log)
    process = identify(child.pid)
    if process is None:  # only if SIGCHLD is ignored: a child that was not waited for keeps its pid
        raise EngineFailed(f"{argv[0]} vanished as it started", hint="run it by hand")
    return process


def reap_process(process: ProcessId) -> int | None:
    """Return the exit status (negative: the signal) of a child of ours that has ended; once."""
    if not is_here(process):
        return None
    with contextlib.suppress(ChildProcessError):  # it is no child of ours
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None
    return None


def stop_process(process: ProcessId | None, *, marker: str, grace_s: float = GRACE_S) -> bool:
    """End the process and everything it started; return whether anything was alive.

    SIGTERM first, SIGKILL after `grace_s`, or at once on Ctrl-C, which is raised afterwards. Raises
    EngineFailed naming pids that even SIGKILL did not end.
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
    # The descendants count: an engine may be a wrapper script.
    parts = [part for member in process_tree(process) if (part := _activity_of(member)) is not None]
    if not parts:
        return None
    reads = [part.read_bytes for part in parts if part.read_bytes is not None]
    return Activity(
        read_bytes=sum(reads) if reads else None,
        resident_bytes=sum(part.resident_bytes for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
    )


def process_tree(process: ProcessId) -> tuple[psutil.Process, ...]:
    if find_presence(process) is not Presence.RUNNING:
        return ()
    try:
        leader = psutil.Process(process.pid)
        return (leader, *leader.children(recursive=True))
    except psutil.Error:
        return ()


class _Child(subprocess.Popen[bytes]):
    """A child that outlives us on purpose; only `reap_process` waits for it."""

    def __del__(self) -> None:
        pass  # Popen's own warns of a child that was left behind; there are no pipes to close


def cannot_run(program: str, error: OSError) -> EngineFailed | NotFound | NotAllowed:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"the engine {program} does not exist", hint="launcher engine list")
    if isinstance(error, PermissionError):
        return NotAllowed(f"the engine {program} may not be run", hint=f"chmod +x {program}")
    return EngineFailed(
        f"the engine {program} cannot be run here: {error.strerror}", hint="launcher engine build"
    )


def _family(process: ProcessId | None, marker: str) -> list[psutil.Process]:
    members: dict[int, psutil.Process] = {}
    # Leader, session, descendants, bearers of the marker. The leader's pid names its session only while it
    # is provably the leader's.
    leader = process.pid if process is not None and is_here(process) else None
    if leader is not None:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(leader)
            members = {seen.pid: seen for seen in (root, *root.children(recursive=True))}
    for seen in psutil.process_iter():
        if seen.pid not in members and (_in_session(seen.pid, leader) or _carries(seen, marker)):
            members[seen.pid] = seen
    members.pop(os.getpid(), None)
    return [seen for seen in members.values() if _alive(seen)]


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
            os.killpg(group, signal.SIGTERM)  # once: for llama-server a second one means exit(1)
    for seen in members:
        with contextlib.suppress(psutil.Error, OSError):
            if group is None or os.getpgid(seen.pid) != group:
                seen.terminate()


def _kill(members: list[psutil.Process], process: ProcessId | None, marker: str) -> None:
    """Send SIGKILL until no process is left. Raises EngineFailed after KILL_S."""
    # Again and again: a process may have forked between the look and the signal.
    deadline = time.monotonic() + KILL_S
    while left := [seen for seen in members if _alive(seen)] or _family(process, marker):
        if time.monotonic() > deadline:
            pids = ", ".join(str(seen.pid) for seen in left)
            raise EngineFailed(
                f"process {pids} did not end within {KILL_S:.0f} s of SIGKILL: it is stuck in the kernel",
                hint="sudo dmesg has why; a driver that hangs needs a reboot",
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
