"""Run a program line by line; its whole process group ends with us."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

# after SIGINT, before SIGKILL: enough for ninja to delete the files it was half through writing
_GRACE_S = 5.0


def run_lines(
    argv: Sequence[str | Path],
    *,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep_open: tuple[int, ...] = (),  # descriptors that the child inherits
    on_tick: Callable[[], None] | None = None,  # called at least every `tick_s`, lines or not
    tick_s: float = 1.0,
    memory_bytes: int | None = None,  # what the child, and each of its children, may allocate (Linux)
) -> int:
    """Run a program without a shell or stdin; pass each line it prints to `on_line`.

    Returns the exit status (negative: the signal). Raises OSError if it cannot be started. What `on_line` or
    `on_tick` raises ends the program, and is raised.
    """
    process = subprocess.Popen(
        [str(part) for part in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        pass_fds=keep_open,
        start_new_session=True,  # a Ctrl-C in the terminal reaches only us
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    with process:
        try:
            if memory_bytes is not None:
                _limit_memory(process.pid, memory_bytes)
            for line in _lines(process, tick_s if on_tick else None):
                if line is not None:
                    on_line(line)
                if on_tick is not None:
                    on_tick()
            return process.wait()
        except BaseException:  # KeyboardInterrupt too
            _end_group(process)
            raise


def _lines(process: subprocess.Popen[str], tick_s: float | None) -> Iterator[str | None]:
    """Yield the lines of the program, and None after `tick_s` without one."""
    assert process.stdout is not None  # noqa: S101 (asked for above)
    stdout = process.stdout
    if tick_s is None:
        yield from (line.rstrip("\n") for line in stdout)
        return
    lines: SimpleQueue[str | None] = SimpleQueue()

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed: the program was ended
            for line in stdout:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True, name="lines").start()
    while True:
        try:
            read_line = lines.get(timeout=tick_s)
        except Empty:
            yield None
            continue
        if read_line is None:
            return
        yield read_line


def _limit_memory(pid: int, n_bytes: int) -> None:
    # RLIMIT_DATA: what is allocated, not what is mapped from files; children inherit it
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (n_bytes, n_bytes))


def _end_group(process: subprocess.Popen[str]) -> None:
    # The child leads its session, so its pid is the group's id. It may be gone and leave children.
    try:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    finally:  # also when a second Ctrl-C ends the grace
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def output_of(program: str | Path, *arguments: str) -> str:
    """Return what a program prints on stdout; empty if it cannot be run."""
    try:
        done = subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
