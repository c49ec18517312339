"""One llama-server as the supervisor's child: the pipes to it, where its part of the log begins, its end.

It is talked to by the child protocol (tools/server/server-models.cpp): under LLAMA_SERVER_ROUTER_PORT the server
tells its state on stdout, takes `cmd_router_to_child:exit` on stdin, and ends when stdin closes. An engine without the
protocol is watched from outside and ended by SIGTERM.
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

_ROUTER_PORT = {"LLAMA_SERVER_ROUTER_PORT": "1"}
"""Its presence alone makes llama-server a child; the port is never connected to."""
_LOG_BYTES = 4 << 20
"""Of one load, for the diagnosis: at -lv 4 a model of 60 layers logs about 100 kB."""


class Child:
    """Started when made: raises OSError when the program cannot be run. `number` tells it from those before."""

    def __init__(
        self, number: int, argv: Sequence[str], log: Path, group: Path | None, taken: VramGrowth
    ) -> None:
        self.number = number
        self.reports = Reports()
        self.taken = taken
        self.began = time.monotonic()
        self._log = log
        self._log_start = log_size(log)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ROUTER_PORT},
            start_new_session=True,
            preexec_fn=protect.before_exec(group),  # noqa: PLW1509  no thread of ours runs between two children
        )
        self.pid = self._process.pid
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def stdout(self) -> int | None:
        """The descriptor it is heard on; None once it is closed."""
        pipe = self._process.stdout
        return None if pipe is None or pipe.closed else pipe.fileno()

    def hear(self) -> bytes | None:
        """What it wrote beside its reports, and belongs into the log; None at the end."""
        data = b"" if self.stdout is None else os.read(self.stdout, 1 << 16)
        return self.reports.add(data) if data else None

    def exit_status(self) -> int | None:
        """Negative: the signal that ended it. None while it runs."""
        return self._process.poll()

    def ask_exit(self) -> None:
        """By the pipe where it listens to it, which it does once it is loaded; else by SIGTERM."""
        if self._process.stdin is not None and self.reports.is_ready:
            with contextlib.suppress(OSError):
                os.write(self._process.stdin.fileno(), EXIT)
                return
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """To it and its process group, unless it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def log(self) -> str:
        """What was logged since it was started."""
        return read_from(self._log, self._log_start, _LOG_BYTES)

    def close(self) -> None:
        """Let go of one that has ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self.taken.close()
