"""Write a deployment's log, whose only writer the supervisor is, and keep it bounded."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from launcher.deployment.log_file import LOG_LIMIT_BYTES, open_log
from launcher.engine.log.quiet import QuietLog

_LOG = 2  # stderr, which our starter has opened


class LogWriter:
    """The log at `path`; a full disk costs it lines, and no older log."""

    def __init__(self, path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._filter = QuietLog()
        self._lost_bytes = 0

    def add(self, block: bytes, *, quiet: bool) -> None:
        """Write what the server printed; with `quiet` not what it says of every request."""
        self._write(self._filter.add(block, quiet=quiet))

    def end(self) -> None:
        """Write the last words of a server that has ended."""
        if rest := self._filter.end():
            self._write(rest + b"\n")

    def bound(self) -> None:
        """Begin a new file where the old one is full. Nothing is copied."""
        with contextlib.suppress(OSError):
            ours = os.fstat(_LOG)
            if ours.st_size <= self._limit_bytes or not os.path.samestat(ours, self._path.stat()):
                return
            is_stdout = os.path.sameopenfile(1, _LOG)
            new = open_log(self._path)
            for end in (_LOG, *((1,) if is_stdout else ())):
                os.dup2(new, end)
            os.close(new)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._lost_bytes:
            data = b"launcher: %d bytes of this log could not be written\n%s" % (self._lost_bytes, data)
        try:
            while data:
                data = data[os.write(_LOG, data) :]
            self._lost_bytes = 0
        except OSError:
            self._lost_bytes += len(data)
