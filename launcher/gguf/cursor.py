"""Read numbers and strings from the first bytes of a header, which may end too early."""

from __future__ import annotations

import struct

from launcher.errors import BadGguf

# values kept at most; further ones are stepped over. With the bounds on counts, a hostile header's objects
# stay below 64 MiB
KEEP_BYTES = 2 << 20

U32 = struct.Struct("<I")
I32 = struct.Struct("<i")
U64 = struct.Struct("<Q")
I64 = struct.Struct("<q")


class HeaderGoesOn(Exception):
    """Raised if the header has at least `n_bytes` and fewer are here; `parse_header` returns NeedMore."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class Cursor:
    __slots__ = ("data", "keep", "position", "rest", "size")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.data = memoryview(data)
        self.size = len(data)
        self.position = 0
        self.rest = 0  # bytes that follow the item being read, at least: says how long the header is
        self.keep = KEEP_BYTES  # bytes of values that may still be kept

    def need(self, n_bytes: int) -> None:
        """Raise HeaderGoesOn unless `n_bytes` more are here."""
        if self.position + n_bytes > self.size:
            raise HeaderGoesOn(self.position + n_bytes + self.rest)

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

    def reserve(self, n_bytes: int) -> bool:
        """Reserve `n_bytes` for a value; return False if it may not be kept."""
        if n_bytes > self.keep:
            return False
        self.keep -= n_bytes
        return True


def quoted(key: str) -> str:
    """Return a key as shown in a message: escaped, and cut at 80 characters."""
    return repr(key if len(key) <= 80 else key[:80] + "…")


def text(raw: bytes) -> str:
    """Decode UTF-8; bytes that are not UTF-8, which llama.cpp takes too, are escaped."""
    return raw.decode("utf-8", "backslashreplace")
