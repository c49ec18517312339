"""Read numbers and strings from the first bytes of a header, which may end too early."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from launcher.errors import BadGguf
from launcher.units import one_line

# values kept at most; further ones are stepped over. With the bounds on counts, a hostile header's objects
# stay below 64 MiB
KEEP_BYTES = 2 << 20

U32 = struct.Struct("<I")
I32 = struct.Struct("<i")
U64 = struct.Struct("<Q")
I64 = struct.Struct("<q")


T = TypeVar("T")
# A reading that pauses where the bytes end: yields how many the header has at least, returns what it read.
Reading: TypeAlias = Generator[int, None, T]


class HeaderGoesOn(Exception):
    """Raised if the header has at least `n_bytes` and fewer are here."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class Cursor:
    __slots__ = ("data", "keep", "position", "rest", "size")

    def __init__(self) -> None:
        self.data = memoryview(b"")
        self.size = 0
        self.position = 0
        self.rest = 0  # bytes that follow the item being read, at least: says how long the header is
        self.keep = KEEP_BYTES  # bytes of values that may still be kept

    def look_at(self, data: bytes | bytearray | memoryview) -> None:
        """Go on with these bytes of the file, from its start."""
        self.data = memoryview(data)
        self.size = len(data)

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


def read_whole(cursor: Cursor, read: Callable[[Cursor], T]) -> Reading[T]:
    """Read one small item, again from its beginning whenever the bytes ended inside it."""
    start, rest = cursor.position, cursor.rest
    while True:
        try:
            return read(cursor)
        except HeaderGoesOn as short:
            yield short.n_bytes
            cursor.position, cursor.rest = start, rest


def quoted(key: str) -> str:
    """Return a key as shown in a message: escaped, and cut at 80 characters."""
    return repr(key if len(key) <= 80 else key[:80] + "…")


def text(raw: bytes) -> str:
    """Decode UTF-8; bytes that are not UTF-8, which llama.cpp takes too, are escaped."""
    return raw.decode("utf-8", "backslashreplace")


def name_of(raw: bytes) -> str:
    """Decode the name of a tensor; what is not printable is escaped too."""
    # no such name is one that llama.cpp looks for, and every message may show it as it is
    return one_line(text(raw))
