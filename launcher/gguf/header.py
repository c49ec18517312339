"""Read a GGUF header without I/O: bytes in, `Header` or `NeedMore` out."""

# Layout and checks are those of `gguf_init_from_reader` (ggml/src/gguf.cpp, llama.cpp 0c1e570): whatever it
# refuses is refused here. A header may come from anywhere, so there are bounds on top: MAX_HEADER_BYTES,
# MAX_KV, MAX_KEYS_BYTES, MAX_TENSORS and KEEP_BYTES.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.errors import BadGguf
from launcher.gguf.cursor import I64, KEEP_BYTES, U32, Cursor, Reading, read_whole
from launcher.gguf.metadata import (
    MAX_ARRAY_ITEMS,
    MAX_KEYS_BYTES,
    MAX_STRING_BYTES,
    MetadataScalar,
    SkippedArray,
    SkippedString,
    Value,
    ValueType,
    read_metadata,
)
from launcher.gguf.tensors import MIN_TENSOR_BYTES, TensorInfo, pad, read_tensors

__all__ = [
    "KEEP_BYTES",
    "MAX_ARRAY_ITEMS",
    "MAX_HEADER_BYTES",
    "MAX_KEYS_BYTES",
    "MAX_KV",
    "MAX_STRING_BYTES",
    "MAX_TENSORS",
    "Header",
    "HeaderReader",
    "MetadataScalar",
    "NeedMore",
    "SkippedArray",
    "SkippedString",
    "TensorInfo",
    "Value",
    "ValueType",
    "parse_header",
]

# Measured: 4.8 MB for 163,840 BPE tokens with their merges, 6.5 MB for gemma-3-270m's 262,144. That leaves
# room for four times such a vocabulary, or for an embedded tokenizer.json. llama.cpp's own header fetcher
# stops at 64 MiB (tests/gguf-model-data.cpp); 48 MiB keep the reader of a hostile file below that.
MAX_HEADER_BYTES = 48 << 20

# bounds on the objects that a hostile header can make us build; real files have tens of keys and at most a
# few thousand tensors (Kimi K3: 2573)
MAX_KV = 1 << 14
MAX_TENSORS = 1 << 16

_PREFIX_BYTES = 24  # magic, version, n_tensors, n_kv


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedMore:
    """The answer to bytes that begin a header and do not end it."""

    n_bytes: int  # of the header in all, at least: fetching up to here fetches header only


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Header:
    """Everything before the tensor data."""

    version: int
    alignment: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int  # where the tensor data begin
    # Where the last tensor ends: the least size of a file. llama_tensor_weight (src/llama-model-loader.h)
    # does not ask for the padding after it.
    end: int


def parse_header(data: bytes | bytearray | memoryview) -> Header | NeedMore:
    """Read a header from the first bytes of a file, however many there are.

    Raises BadGguf for a header that llama.cpp refuses or that exceeds the bounds above. The message does
    not name the file.
    """
    return HeaderReader().read_on(data)


class HeaderReader:
    """Read one header while its bytes arrive: what was read is not read again."""

    def __init__(self) -> None:
        self._cursor = Cursor()
        self._reading = _read(self._cursor)

    def read_on(self, data: bytes | bytearray | memoryview) -> Header | NeedMore:
        """Go on with the bytes from the file's start, as many as are here or more than last time.

        Raises what `parse_header` raises.
        """
        self._cursor.look_at(data)
        try:
            n_bytes = next(self._reading)
        except StopIteration as end:
            header: Header = end.value
            return header
        finally:
            self._cursor.look_at(b"")  # `data` may grow now
        if n_bytes > MAX_HEADER_BYTES:
            raise BadGguf(
                f"the header claims at least {n_bytes} bytes, "
                f"and {MAX_HEADER_BYTES} is the most this reader takes",
                hint="the file is damaged or not a model: fetch it again",
            )
        return NeedMore(n_bytes=n_bytes)


def _read(cursor: Cursor) -> Reading[Header]:
    version, n_tensors, n_kv = yield from read_whole(cursor, _read_prefix)
    metadata, alignment = yield from read_metadata(cursor, n_kv, n_tensors * MIN_TENSOR_BYTES)
    tensors, end = yield from read_tensors(cursor, n_tensors, alignment)
    if not tensors:  # gguf.cpp pads only where data follows
        return Header(
            version=version,
            alignment=alignment,
            metadata=metadata,
            tensors=(),
            data_offset=cursor.position,
            end=cursor.position,
        )
    data_offset = pad(cursor.position, alignment)
    cursor.rest = 0
    yield from read_whole(cursor, lambda cursor: cursor.need(data_offset - cursor.position))
    return Header(
        version=version,
        alignment=alignment,
        metadata=metadata,
        tensors=tensors,
        data_offset=data_offset,
        end=data_offset + end,
    )


def _read_prefix(cursor: Cursor) -> tuple[int, int, int]:
    magic = bytes(cursor.data[:4])
    if not b"GGUF".startswith(magic):
        raise _not_gguf(bytes(cursor.data[:16]))
    cursor.rest = _PREFIX_BYTES - 4
    cursor.need(4)
    cursor.position = 4
    cursor.rest = _PREFIX_BYTES - 8
    version = cursor.number(U32)
    _check_version(version)
    cursor.rest = 8
    n_tensors = cursor.number(I64)
    cursor.rest = 0
    n_kv = cursor.number(I64)
    for what, count, limit in (("tensors", n_tensors, MAX_TENSORS), ("keys", n_kv, MAX_KV)):
        if not 0 <= count <= limit:
            raise BadGguf(f"the number of {what} is {count}, and must be from 0 to {limit}")
    return version, n_tensors, n_kv


_OTHER_FORMATS = {
    b"FUGG": "a byte-swapped GGUF file",
    b"PK\x03\x04": "a zip archive",
    b"lmgg": "a GGML file older than GGUF",
    b"fmgg": "a GGML file older than GGUF",
    b"tjgg": "a GGML file older than GGUF",
    b"vers": "a git-LFS pointer, not the file it points to",
    b"<!DO": "a web page",
    b"<!do": "a web page",
    b"<htm": "a web page",
}


def _not_gguf(start: bytes) -> BadGguf:
    """Return an error that says what the file is instead, if the first bytes tell."""
    is_safetensors = start[8:10] == b'{"'
    what = "a safetensors file" if is_safetensors else _OTHER_FORMATS.get(start[:4])
    return BadGguf(
        f"it is {what or 'not a model file llama.cpp reads'}: "
        f"it begins with {repr(start[:4])[1:]} instead of 'GGUF'",
        hint="look for a .gguf file of this model, or fetch it again",
    )


def _check_version(version: int) -> None:
    if version in {2, 3}:  # they have the same layout
        return
    if version & 0xFFFF == 0 and version:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        raise BadGguf(f"it is a big-endian GGUF file (version {swapped}), and this machine is little-endian")
    if version == 1:
        raise BadGguf("GGUF version 1 is no longer supported: versions 2 and 3 are")
    raise BadGguf(f"GGUF version {version} is not supported: versions 2 and 3 are")
