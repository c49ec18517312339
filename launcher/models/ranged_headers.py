"""Read headers from anywhere, with few bytes and few rounds."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol

from launcher.errors import BadGguf
from launcher.gguf.header import MAX_HEADER_BYTES, Header, HeaderReader, NeedMore
from launcher.gguf.model import ModelFile, Shard
from launcher.gguf.split import check_split
from launcher.models.header_memory import HEADER_MEMORY, HeaderMemory, parsed_bytes
from launcher.models.located import FileLocations, Located

# About eight rounds for a vocabulary of 160k tokens, one for a shard without.
SLACK_BYTES = 64 << 10
# A header that is not over after so many rounds is an odd one: each further round reads on by twice as much
# as the one before, so that 48 MiB take at most 10 more.
_USUAL_ROUNDS = 12
_PIECE_BYTES = 8 << 20  # however much a header claims to need, it is read 8 MiB at a time
_REFETCH = "fetch it again"


class ByteSource(Protocol):
    """A file somewhere."""

    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int | None: ...  # may be known only after the first `read`

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer only where the file ends."""


class RemoteSource(ByteSource, Protocol):
    def forget(self) -> None:
        """Read the file as if nothing of it had been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBytes:
    """A `ByteSource` over the first bytes of a file, which are here; `size_bytes` is the whole file's."""

    name: str
    size_bytes: int
    content: bytes

    def read(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]


def read_header(
    source: ByteSource, *, slack_bytes: int = SLACK_BYTES, memory: HeaderMemory = HEADER_MEMORY
) -> tuple[Header, bytes]:
    """Read the header of `source`; return it with the `data_offset` raw bytes it was parsed from.

    Raises BadGguf for what llama.cpp would refuse, for a file shorter than its tensors, and if `memory` is
    used up.
    """
    # reads at most `slack_bytes` more than the header, of an odd one at most half of it
    start = _FileStart(source, memory)
    try:
        header, raw = start.read(slack_bytes)
        _check_end(source, header)
        start.take(parsed_bytes(header))
    except _Named as error:
        start.give_back(start.taken)
        raise BadGguf(error.message, hint=error.hint) from None
    except BadGguf as error:
        start.give_back(start.taken)
        raise BadGguf(f"{source.name}: {error.message}", hint=error.hint or _REFETCH) from None
    except BaseException:
        start.give_back(start.taken)
        raise
    start.give_back(start.n_bytes - len(raw))
    memory.hold(header, start.taken)
    return header, raw


def read_remote_header(source: RemoteSource) -> tuple[Header, bytes]:
    """Read a header over a network; fetch it once more before the file is called bad. Raises BadGguf."""
    try:
        return read_header(source)
    except BadGguf:
        source.forget()
        return read_header(source)


class _FileStart:
    """The bytes of a file from its start, as far as they were read."""

    def __init__(self, source: ByteSource, memory: HeaderMemory) -> None:
        self.n_bytes = 0
        self.taken = 0  # of `memory`
        self._source = source
        self._memory = memory
        self._data = io.BytesIO()

    def read(self, slack_bytes: int) -> tuple[Header, bytes]:
        reader = HeaderReader()
        needed = 0  # the least bytes that `reader` says the header has
        for further in range(-_USUAL_ROUNDS, MAX_HEADER_BYTES.bit_length()):
            complete = self._extend(needed + (slack_bytes << max(0, further)))
            with self._memory.parsing, self._data.getbuffer() as view:
                parsed = reader.read_on(view)
            if isinstance(parsed, Header):
                self._data.truncate(parsed.data_offset)
                return parsed, self._data.getvalue()  # the buffer itself, no copy
            if complete:
                raise _truncated(self._source.name, self.n_bytes, parsed)
            needed = parsed.n_bytes
            if self._source.size_bytes is not None and needed > self._source.size_bytes:
                raise _truncated(self._source.name, self._source.size_bytes, parsed)
        raise AssertionError("a header is over or refused at MAX_HEADER_BYTES")

    def take(self, n_bytes: int) -> None:
        self._memory.take(n_bytes)
        self.taken += n_bytes

    def give_back(self, n_bytes: int) -> None:
        self._memory.give_back(n_bytes)
        self.taken -= n_bytes

    def _extend(self, target: int) -> bool:
        """Read on up to `target` bytes from the start; True if the file ended there."""
        source = self._source
        while self.n_bytes < target:
            if source.size_bytes is not None:
                target = min(target, source.size_bytes)
            length = min(target - self.n_bytes, _PIECE_BYTES)
            if length <= 0:
                return True
            self.take(length)
            piece = source.read(self.n_bytes, length)
            self._data.write(piece)
            self.n_bytes += len(piece)
            self.give_back(length - len(piece))
            if len(piece) < length:
                return True
        return source.size_bytes is not None and self.n_bytes >= source.size_bytes


class _Named(BadGguf):
    """An error that names its file already."""


def _check_end(source: ByteSource, header: Header) -> None:
    if source.size_bytes is not None and header.end > source.size_bytes:
        raise _Named(
            f"{source.name} is truncated: it has {source.size_bytes} bytes,"
            f" and its tensors need {header.end}",
            hint=_REFETCH,
        )


def _truncated(name: str, size_bytes: int, parsed: NeedMore) -> _Named:
    if size_bytes == 0:
        return _Named(f"{name} is empty: a GGUF file has at least 24 bytes", hint=_REFETCH)
    return _Named(
        f"{name} is truncated: it has {size_bytes} bytes, and its header alone needs {parsed.n_bytes}",
        hint=_REFETCH,
    )


def assemble(
    *,
    model_id: str,
    source: str,
    shards: tuple[Shard, ...],
    read: tuple[tuple[Header, bytes], ...],
    files: FileLocations,
) -> Located:
    """Join shards and their headers to a model. Raises BadGguf if they do not match."""
    headers = tuple(header for header, _ in read)
    check_split(tuple(shard.name for shard in shards), headers)
    return Located(
        model=ModelFile(model_id=model_id, source=source, shards=shards, headers=headers),
        raw_headers=tuple(raw for _, raw in read),
        files=files,
    )
