"""Ask a llama-server about itself: run it with `--version` or the like."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher.engine.environment import engine_env
from launcher.engine.find import GET_HINT
from launcher.errors import EngineFailed, UsageError

# For `--version`, `--help`, `--list-devices`: 20 ms on CPU, seconds if a GPU driver has to wake up first.
ASK_TIMEOUT_S = 60.0

# of ld.so: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by …)
_VERSION_NOT_FOUND = re.compile(r"version `([A-Za-z0-9_.]{1,40})' not found")


def ask_engine(path: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run llama-server with `--version` or the like and return what it prints (stdout, then stderr).

    Raises EngineFailed or UsageError if this is not a llama-server that runs here.
    """
    argv = (str(path), *arguments)
    done = run_to_its_end(argv, os.environ if environment is None else environment, ASK_TIMEOUT_S)
    if done.returncode != 0:
        raise _engine_failure(path, arguments, done.returncode, done.stderr or done.stdout)
    return done.stdout + done.stderr


def ask_for_help(path: Path) -> str:
    """Return what llama-server prints for `--help`. Raises as `ask_engine`."""
    done = run_to_its_end((str(path), "--help"), os.environ, ASK_TIMEOUT_S)
    # ik_llama.cpp prints it and ends with status 1
    if done.returncode not in {0, 1} or (done.returncode and "--model" not in done.stdout):
        raise _engine_failure(path, ("--help",), done.returncode, done.stderr or done.stdout)
    return done.stdout + done.stderr


def run_to_its_end(
    argv: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    hint: str = GET_HINT,
    before_exec: Callable[[], None] | None = None,  # in the child
) -> subprocess.CompletedProcess[str]:
    """Run one of the engine's programs and return how it ended; nothing of it is left running.

    Raises UsageError if it cannot be started, EngineFailed with `hint` if it takes longer.
    """
    clean, _ = engine_env(environment)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=clean,
            start_new_session=True,
            preexec_fn=before_exec,  # noqa: PLW1509 (it only sets flags)
        )
    except OSError as error:
        raise UsageError(f"{argv[0]} cannot be started: {error.strerror or error}", hint=GET_HINT) from error
    with process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a wrapper script's children too
            if isinstance(error, subprocess.TimeoutExpired):
                raise EngineFailed(
                    f"{' '.join(argv)} did not end within {timeout_s:.0f} s", hint=hint
                ) from error
            raise
    return subprocess.CompletedProcess(argv, process.returncode, output, errors)


def describe_status(status: int) -> str:
    """Say how a process ended, by its exit status or minus the signal's number."""
    return f"signal {-status}" if status < 0 else f"status {status}"


def _engine_failure(path: Path, arguments: tuple[str, ...], status: int, output: str) -> EngineFailed:
    """Explain why an engine that started ended badly."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    library = next((line for line in lines if "error while loading shared libraries" in line), None)
    library = library or next((line for line in lines if "Library not loaded" in line), None)
    if library is not None:
        missing = library.partition("libraries:")[2].strip() or library
        return EngineFailed(
            f"{path} misses a shared library: {missing}",
            hint=f"install it or put it beside {path}, or launcher engine build",
        )
    wanted = next((match for line in lines if (match := _VERSION_NOT_FOUND.search(line))), None)
    if wanted is not None:
        return EngineFailed(
            f"{path} was built for a newer system: it needs {wanted[1]}, which is not here",
            hint="launcher engine install",
        )
    if status == -signal.SIGILL:
        return EngineFailed(
            f"{path} was built for another processor (illegal instruction)", hint="launcher engine build"
        )
    last_line = f": {lines[-1]}" if lines else ""
    return EngineFailed(
        f"{path} {' '.join(arguments)} ended with {describe_status(status)}{last_line}", hint=GET_HINT
    )
