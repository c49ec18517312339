"""Leave out of a log what llama-server says of every request. Pure."""

# -lv 4 is needed for the buffers of a load, and llama-server cannot lower the level while it runs: a chat
# request logs 2.3 kB there. What is left has its speed, warnings and errors: 0.3 kB.

from __future__ import annotations

import re

# common/log.cpp at 0c1e570: a time, a level, and for the server's own lines the module (srv, slot, que, res).
_OF_REQUESTS = re.compile(rb"[0-9.]{1,40} [IDT] (?:srv|slot|que|res) ")
_SPEED = b"eval time"

_MAX_LINE_BYTES = 64 << 10  # of an unfinished line that is held back; a longer one is passed on in pieces


class QuietLog:
    """A filter for blocks of a log."""

    def __init__(self) -> None:
        self._rest = b""
        self._leaves_out = False

    def add(self, block: bytes, *, quiet: bool) -> bytes:
        """Return what is to be written of all whole lines so far; with `quiet` not what requests log."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        kept = [line + b"\n" for line in lines if self._is_kept(line, quiet=quiet)]
        if len(self._rest) > _MAX_LINE_BYTES:
            kept.append(self.end())
        return b"".join(kept)

    def end(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest

    def _is_kept(self, line: bytes, *, quiet: bool) -> bool:
        if not line.startswith((b"\t", b" ")):  # else it goes on with the line before
            self._leaves_out = quiet and bool(_OF_REQUESTS.match(line)) and _SPEED not in line
        return not self._leaves_out
