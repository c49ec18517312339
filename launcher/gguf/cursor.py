"""A position in the bytes of a header that may go on: what every part of the reader is built on."""

from __future__ import annotations

import struct

from launcher.errors import BadGguf

KEEP_BYTES = 2 << 20
"""Once this many bytes of values were kept, further ones are stepped over: together with the bounds on counts it
keeps a hostile header's objects below 64 MiB."""

U32 = struct.Struct("<I")
I32 = struct.Struct("<i")
U64 = struct.Struct("<Q")
I64 = struct.Struct("<q")


class Short(Exception):
    """The header goes on to `n_bytes` at least; `parse_header` turns it into NeedMore."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class Cursor:
    """A position in the bytes so far. `rest` is the least that follows the item being read, so that running
    out of bytes can say how long the header is at least."""

    __slots__ = ("data", "keep", "position", "rest", "size")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = memoryview(data)
        self.size = len(data)
        self.position = 0
        self.rest = 0
        self.keep = KEEP_BYTES

    def need(self, n_bytes: int) -> None:
        """Be sure of `n_bytes` more here."""
        if self.position + n_bytes > self.size:
            raise Short(self.position + n_bytes + self.rest)

    def number(self, format_: struct.Struct) -> int:
        self.need(format_.size)
        (value,) = format_.unpack_from(self.data, self.position)
        self.position += format_.size
        return int(value)

    def string(self, what: str, limit: int) -> bytes:
        n_bytes = self.number(U64)
        if n_bytes > limit:
            raise BadGguf(f"{what} has a length of {n_bytes} bytes, and {limit} is the most")
        self.need(n_bytes)
        value = bytes(self.data[self.position : self.position + n_bytes])
        self.position += n_bytes
        return value

    def spend(self, n_bytes: int) -> bool:
        """Whether there is room left to keep a value of `n_bytes`; if so it is taken."""
        if n_bytes > self.keep:
            return False
        self.keep -= n_bytes
        return True


def quoted(key: str) -> str:
    """A key for a message: escaped, and cut where a hostile one goes on."""
    return repr(key if len(key) <= 80 else key[:80] + "…")


def text(raw: bytes) -> str:
    """UTF-8, with what is not UTF-8 kept readable: llama.cpp takes any bytes."""
    return raw.decode("utf-8", "backslashreplace")
