"""A program that is run to its end: every line handed on as it comes, its whole process group ended with us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_GRACE_S = 5.0
"""After SIGINT, before SIGKILL: enough for ninja to delete the files it was half through writing."""


def run_lines(
    argv: Sequence[str | Path],
    *,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep_open: tuple[int, ...] = (),
) -> int:
    """Run `argv` without a shell and without stdin; its stdout and stderr, mixed, go to `on_line` by line.

    Returns the exit status (negative: the signal). The child leads a session of its own, so a Ctrl-C in the
    terminal reaches only us; whatever exception ends the wait (KeyboardInterrupt among them) ends the
    child's whole group first and then goes on. `keep_open` descriptors are inherited. Raises OSError when
    the program cannot be started.
    """
    process = subprocess.Popen(
        [str(part) for part in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        pass_fds=keep_open,
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    with process:
        try:
            if process.stdout is not None:
                for line in process.stdout:
                    on_line(line.rstrip("\n"))
            return process.wait()
        except BaseException:
            _end_group(process)
            raise


def _end_group(process: subprocess.Popen[str]) -> None:
    """The group's id is the leader's pid: it leads its session. The leader may be gone and leave children."""
    try:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    finally:  # also when a second Ctrl-C ends the grace
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def output_of(program: str | Path, *arguments: str) -> str:
    """What a tool says about itself; nothing when it cannot be asked."""
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
