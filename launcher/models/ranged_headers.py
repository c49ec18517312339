"""Read headers from anywhere, with few bytes and few rounds."""

from __future__ import annotations

from typing import Protocol

from launcher.errors import BadGguf
from launcher.gguf.header import Header, NeedMore, parse_header
from launcher.gguf.model import ModelFile, Shard
from launcher.gguf.split import check_split
from launcher.models.located import FileLocations, Located

# About eight rounds for a vocabulary of 160k tokens, one for a shard without.
SLACK_BYTES = 64 << 10
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


def read_header(source: ByteSource, *, slack_bytes: int = SLACK_BYTES) -> tuple[Header, bytes]:
    """Read the header of `source`; return it with the `data_offset` raw bytes it was parsed from.

    Raises BadGguf for what llama.cpp would refuse and for a file shorter than its tensors.
    """
    # reads at most `slack_bytes` more than the header
    data = bytearray()
    needed = 0  # the least bytes that `parse_header` says the header has
    try:
        while True:
            complete = _extend(data, source, needed + slack_bytes)
            parsed = parse_header(data)
            if isinstance(parsed, Header):
                break
            if complete:
                raise _truncated(source.name, len(data), parsed)
            needed = parsed.n_bytes
            if source.size_bytes is not None and needed > source.size_bytes:
                raise _truncated(source.name, source.size_bytes, parsed)
    except _Truncated as error:
        raise BadGguf(error.message, hint=error.hint) from None
    except BadGguf as error:
        raise BadGguf(f"{source.name}: {error.message}", hint=error.hint or _REFETCH) from None
    if source.size_bytes is not None and parsed.end > source.size_bytes:
        raise BadGguf(
            f"{source.name} is truncated: it has {source.size_bytes} bytes,"
            f" and its tensors need {parsed.end}",
            hint=_REFETCH,
        )
    return parsed, bytes(memoryview(data)[: parsed.data_offset])


def read_remote_header(source: RemoteSource) -> tuple[Header, bytes]:
    """Read a header over a network; fetch it once more before the file is called bad. Raises BadGguf."""
    try:
        return read_header(source)
    except BadGguf:
        source.forget()
        return read_header(source)


class _Truncated(BadGguf):
    """An error that names its file already."""


def _truncated(name: str, size_bytes: int, parsed: NeedMore) -> _Truncated:
    if size_bytes == 0:
        return _Truncated(f"{name} is empty: a GGUF file has at least 24 bytes", hint=_REFETCH)
    return _Truncated(
        f"{name} is truncated: it has {size_bytes} bytes, and its header alone needs {parsed.n_bytes}",
        hint=_REFETCH,
    )


def _extend(data: bytearray, source: ByteSource, target: int) -> bool:
    """Read on up to `target` bytes from the start; True if the file ended there."""
    while len(data) < target:
        if source.size_bytes is not None:
            target = min(target, source.size_bytes)
        length = min(target - len(data), _PIECE_BYTES)
        piece = source.read(len(data), length) if length > 0 else b""
        data += piece
        if len(piece) < length or length <= 0:
            return True
    return source.size_bytes is not None and len(data) >= source.size_bytes


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
