"""Start a benchmark's programs, wait until they answer, read what they take, and end them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import psutil

from launcher.engine.client import generate_token, is_loaded

_LOOK_S, _END_S = 0.01, 30.0


@contextlib.contextmanager
def running(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, log: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program inside the block, with `env` beside the variables that are set; end it and its children."""
    output = subprocess.DEVNULL if log is None else log
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(is_so: Callable[[], object], process: subprocess.Popen[bytes], limit_s: float = 60.0) -> None:
    """Wait for what the program does. Raises SystemExit if it ends before, or takes longer than `limit_s`."""
    ends = time.monotonic() + limit_s
    while not is_so():
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with status {process.returncode}")
        if time.monotonic() > ends:
            raise SystemExit(f"{process.args!r} did not answer within {limit_s:.0f} s")
        time.sleep(_LOOK_S)


def wait_until_open(port: int, process: subprocess.Popen[bytes], limit_s: float = 60.0) -> None:
    """Wait until the program takes connections on a port of this machine. Raises as `wait_until`."""
    wait_until(lambda: _is_open(port), process, limit_s)


def _is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, without that of its children."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / (1 << 20))


def first_token_s(command: Sequence[str], url: str) -> float:
    """Start a llama-server by hand, ask for a token once it is loaded, end it; return the seconds to the token."""
    began = time.monotonic()
    with running(command) as server:
        wait_until(lambda: is_loaded(url), server)
        generate_token(url)
        return time.monotonic() - began
