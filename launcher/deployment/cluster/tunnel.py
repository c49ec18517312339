"""The ssh of one rank: it runs the rank, leads to it, and carries the words of both."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence

from launcher.deployment.cluster.messages import LineBuffer, Message, read_message
from launcher.deployment.cluster.ssh import last_line
from launcher.deployment.supervisor.protect import before_exec

_END_S = 1.0  # for an ssh to end by itself
_MOST_ERRORS = 4 << 10  # bytes of an ssh's stderr


class Tunnel:
    """An ssh, started by the constructor. Its pipes never block."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._lines = LineBuffer()
        self._errors = b""
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=before_exec(None),  # noqa: PLW1509  no thread runs while tunnels are started
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (pipe.fileno() if pipe else -1 for pipe in pipes)
        for end in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(end, False)

    @property
    def outputs(self) -> tuple[int, ...]:
        return (self._stdout, self._stderr)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def last_words(self) -> str:
        return last_line(self._errors.decode("utf-8", errors="replace"))

    def say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # full, as of a machine that is stopped, or closed
            os.write(self._stdin, word)

    def read(self, output: int) -> list[Message] | None:
        """Return what the rank has said; None at the end of this output. Raises BlockingIOError."""
        data = os.read(output, 1 << 16)
        if not data:
            return None
        if output == self._stderr:
            self._errors = (self._errors + data)[-_MOST_ERRORS:]
            return []
        messages = map(read_message, self._lines.add(data))
        return [message for message in messages if message is not None]

    def let_go(self) -> None:
        """Close the rank's stdin: it ends, wherever its ssh is."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
