"""Run a program line by line; its whole process group ends with us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# after SIGINT, before SIGKILL: enough for ninja to delete the files it was half through writing
_GRACE_S = 5.0


def run_lines(
    argv: Sequence[str | Path],
    *,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep_open: tuple[int, ...] = (),  # descriptors that the child inherits
) -> int:
    """Run a program without a shell or stdin; pass each line it prints to `on_line`.

    Returns the exit status (negative: the signal). Raises OSError if it cannot be started.
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
            if process.stdout is not None:
                for line in process.stdout:
                    on_line(line.rstrip("\n"))
            return process.wait()
        except BaseException:  # KeyboardInterrupt too
            _end_group(process)
            raise


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
