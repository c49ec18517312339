"""Run llama-server as the supervisor's child.

By llama.cpp's child protocol (tools/server/server-models.cpp) it reports its state on stdout, takes
`cmd_router_to_child:exit` on stdin, and ends when stdin closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from launcher.deployment.log_file import log_size, read_from
from launcher.deployment.supervisor import protect
from launcher.deployment.supervisor.vram_growth import VramGrowth
from launcher.engine.protocol import EXIT, Reports

# Its presence alone makes llama-server a child; nothing connects to the port.
_ROUTER_PORT = {"LLAMA_SERVER_ROUTER_PORT": "1"}

# Of one load, for the diagnosis: at -lv 4 a model of 60 layers logs about 100 kB.
_LOG_BYTES = 4 << 20


class Child:
    """A llama-server, started by the constructor. Raises OSError if it cannot be run."""

    def __init__(
        self, number: int, argv: Sequence[str], log: Path, group: Path | None, vram_growth: VramGrowth
    ) -> None:
        self.number = number
        self.reports = Reports()
        self.vram_growth = vram_growth
        self.began = time.monotonic()
        self.load_s: float | None = None  # once it has answered
        self._log = log
        self._log_start = log_size(log)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ROUTER_PORT},
            start_new_session=True,
            preexec_fn=protect.before_exec(group),  # noqa: PLW1509  no thread runs between two children
        )
        self.pid = self._process.pid
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Its stdout and stderr, as far as they are open."""
        pipes = (self._process.stdout, self._process.stderr)
        return tuple(pipe.fileno() for pipe in pipes if pipe is not None and not pipe.closed)

    def read(self, output: int) -> bytes | None:
        """Read what it printed, less its reports; None at the end. Raises BlockingIOError."""
        data = os.read(output, 1 << 16)
        if not data:
            return None
        is_stdout = self._process.stdout is not None and output == self._process.stdout.fileno()
        return self.reports.add(data) if is_stdout else data

    def exit_status(self) -> int | None:
        return self._process.poll()  # negative: a signal; None: it runs

    def ask_exit(self) -> None:
        if self._process.stdin is not None and self.reports.is_ready:  # it listens there once it is loaded
            with contextlib.suppress(OSError):
                os.write(self._process.stdin.fileno(), EXIT)
                return
        self.signal(signal.SIGTERM)  # an engine without the protocol, or still loading

    def signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def log(self) -> str:
        return read_from(self._log, self._log_start, _LOG_BYTES)

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.vram_growth.close()
