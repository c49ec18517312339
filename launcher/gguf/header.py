"""Sans-IO GGUF header reader: bytes in, `Header` or `NeedMore` out. It opens nothing and trusts nothing.

Layout and checks are those of `gguf_init_from_reader` (ggml/src/gguf.cpp, llama.cpp 0c1e570): whatever it
refuses is refused here. On top come bounds of our own, because a header may come from anywhere: see
MAX_HEADER_BYTES, MAX_KV, MAX_TENSORS and KEEP_BYTES. Versions 2 and 3 have the same layout.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from launcher.errors import BadGguf
from launcher.gguf.ggml import BLOCKS, GgmlType


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedArray:
    """An array that was checked and stepped over (the tokenizer's): element type id and length."""

    element_type: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedString:
    """A string that was stepped over (an embedded tokenizer.json): its length in bytes."""

    length: int


Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...] | SkippedArray | SkippedString


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor as its header describes it. `shape` is ggml's ne order (row length first); `offset` is
    relative to the header's `data_offset`; `size_bytes` is without padding."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedMore:
    """The bytes so far are a good beginning; the header has at least `n_bytes` in all.

    It never overshoots: whoever fetches `n_bytes` fetches header only.
    """

    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything before the tensor data, which begins at `data_offset`.

    `end` is the last tensor's last byte: what a file must have at least (`llama_tensor_weight`,
    src/llama-model-loader.h, does not ask for the padding after it).
    """

    version: int
    alignment: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    end: int


MAX_HEADER_BYTES = 48 << 20
"""The largest header this reader takes. The largest we know are near 20 MB (a 262k vocabulary, its merges
and an embedded tokenizer.json); llama.cpp's own header fetcher stops at 64 MiB (tests/gguf-model-data.cpp),
and 48 MiB keeps a hostile file's reader below that."""

MAX_KV = 1 << 14
MAX_TENSORS = 1 << 16
"""Counts that bound the objects a hostile header can make us build. Real files have tens of keys and at most
a few thousand tensors (Kimi K3: 2573)."""

MAX_ARRAY_ITEMS = 4096
MAX_STRING_BYTES = 1 << 20
KEEP_BYTES = 2 << 20
"""Arrays and strings longer than these are stepped over, and so is everything once KEEP_BYTES of values were
kept. What matters is small: per-block arrays have at most LLAMA_MAX_LAYERS = 512 items (src/llama-hparams.h),
chat templates tens of kB."""

_MAX_TEXT = 1 << 30  # GGUF_MAX_STRING_LENGTH and GGUF_MAX_ARRAY_ELEMENTS, ggml/src/gguf.cpp
_MAX_KEY = (1 << 16) - 1  # docs/gguf.md: "must be at most 2^16-1 bytes long"
_MAX_NAME = 64  # GGML_MAX_NAME, ggml/include/ggml.h, with its final NUL
_MAX_DIMS = 4  # GGML_MAX_DIMS
_DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT, ggml/include/gguf.h
_INT64_MAX = (1 << 63) - 1
_SIZE_MAX = (1 << 64) - 1

_PREFIX_BYTES = 24  # magic, version, n_tensors, n_kv
_MIN_KV_BYTES = 14  # key length, one byte of key, type, one byte of value
_MIN_TENSOR_BYTES = 24  # name length, n_dims, type, offset


class ValueType(IntEnum):
    """enum gguf_type, ggml/include/gguf.h."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


_FORMATS = {
    ValueType.U8: "B",
    ValueType.I8: "b",
    ValueType.U16: "H",
    ValueType.I16: "h",
    ValueType.U32: "I",
    ValueType.I32: "i",
    ValueType.F32: "f",
    ValueType.BOOL: "?",
    ValueType.U64: "Q",
    ValueType.I64: "q",
    ValueType.F64: "d",
}
_SCALARS = {type_: struct.Struct("<" + format_) for type_, format_ in _FORMATS.items()}
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_U64 = struct.Struct("<Q")
_I64 = struct.Struct("<q")


def parse_header(data: bytes | bytearray | memoryview) -> Header | NeedMore:
    """Read a header from the first bytes of a file, however many there are.

    Raises BadGguf for anything llama.cpp's own reader refuses (ggml/src/gguf.cpp), and for a header beyond
    the bounds above; the message does not name the file.
    """
    try:
        return _read(_Cursor(data))
    except _Short as short:
        if short.n_bytes > MAX_HEADER_BYTES:
            raise BadGguf(
                f"the header claims at least {short.n_bytes} bytes, and {MAX_HEADER_BYTES} is the most this reader takes",
                hint="the file is damaged or not a model: fetch it again",
            ) from None
        return NeedMore(n_bytes=short.n_bytes)


class _Short(Exception):
    """The header goes on to `n_bytes` at least; `parse_header` turns it into NeedMore."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.n_bytes = n_bytes


class _Cursor:
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
            raise _Short(self.position + n_bytes + self.rest)

    def number(self, format_: struct.Struct) -> int:
        self.need(format_.size)
        (value,) = format_.unpack_from(self.data, self.position)
        self.position += format_.size
        return int(value)

    def string(self, what: str, limit: int) -> bytes:
        n_bytes = self.number(_U64)
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


def _read(cursor: _Cursor) -> Header:
    version, n_tensors, n_kv = _read_prefix(cursor)
    metadata, alignment = _read_metadata(cursor, n_kv, n_tensors)
    tensors, end = _read_tensors(cursor, n_tensors, alignment)
    if not tensors:  # gguf.cpp pads only where data follows
        return Header(
            version=version,
            alignment=alignment,
            metadata=metadata,
            tensors=(),
            data_offset=cursor.position,
            end=cursor.position,
        )
    data_offset = _pad(cursor.position, alignment)
    cursor.rest = 0
    cursor.need(data_offset - cursor.position)
    return Header(
        version=version,
        alignment=alignment,
        metadata=metadata,
        tensors=tensors,
        data_offset=data_offset,
        end=data_offset + end,
    )


def _read_prefix(cursor: _Cursor) -> tuple[int, int, int]:
    magic = bytes(cursor.data[:4])
    if not b"GGUF".startswith(magic):
        raise _not_gguf(bytes(cursor.data[:16]))
    cursor.rest = _PREFIX_BYTES - 4
    cursor.need(4)
    cursor.position = 4
    cursor.rest = _PREFIX_BYTES - 8
    version = cursor.number(_U32)
    _check_version(version)
    cursor.rest = 8
    n_tensors = cursor.number(_I64)
    cursor.rest = 0
    n_kv = cursor.number(_I64)
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
    """Say what it is instead, where the first bytes tell."""
    is_safetensors = start[8:10] == b'{"'
    what = "a safetensors file" if is_safetensors else _OTHER_FORMATS.get(start[:4])
    return BadGguf(
        f"it is {what or 'not a model file llama.cpp reads'}: it begins with {start[:4]!r} instead of b'GGUF'",
        hint="look for a .gguf file of this model, or fetch it again",
    )


def _check_version(version: int) -> None:
    if version in {2, 3}:
        return
    if version & 0xFFFF == 0 and version:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        raise BadGguf(f"it is a big-endian GGUF file (version {swapped}), and this machine is little-endian")
    if version == 1:
        raise BadGguf("GGUF version 1 is no longer supported: versions 2 and 3 are")
    raise BadGguf(f"GGUF version {version} is not supported: versions 2 and 3 are")


def _read_metadata(cursor: _Cursor, n_kv: int, n_tensors: int) -> tuple[dict[str, Value], int]:
    metadata: dict[str, Value] = {}
    seen: set[bytes] = set()
    alignment = _DEFAULT_ALIGNMENT
    after = n_tensors * _MIN_TENSOR_BYTES
    for index in range(n_kv):
        cursor.rest = (n_kv - index - 1) * _MIN_KV_BYTES + after
        raw = cursor.string(f"key {index}", _MAX_KEY)
        if not raw:
            raise BadGguf(f"key {index} is empty")
        key = _text(raw)
        if raw in seen:
            raise BadGguf(f"key {_quoted(key)} occurs twice")
        seen.add(raw)
        type_ = _value_type(cursor.number(_I32), key)
        value = _read_array(cursor, key) if type_ is ValueType.ARRAY else _read_scalar(cursor, type_, key)
        if key == "general.alignment":
            alignment = _check_alignment(type_, value)
        metadata[key] = value
    return metadata, alignment


def _value_type(number: int, key: str) -> ValueType:
    try:
        return ValueType(number)
    except ValueError:
        raise BadGguf(
            f"key {_quoted(key)} has value type {number}, and 0 to {max(ValueType):d} are known"
        ) from None


def _check_alignment(type_: ValueType, value: Value) -> int:
    if type_ is not ValueType.U32 or not isinstance(value, int):
        raise BadGguf(f"general.alignment must be of type U32 and is {type_.name}")
    if value == 0 or value & (value - 1):
        raise BadGguf(f"general.alignment is {value}, which is not a power of two")
    return value


def _read_scalar(cursor: _Cursor, type_: ValueType, key: str) -> Value:
    if type_ is not ValueType.STRING:
        format_ = _SCALARS[type_]
        cursor.need(format_.size)
        (value,) = format_.unpack_from(cursor.data, cursor.position)
        cursor.position += format_.size
        number: int | float | bool = value
        return number
    n_bytes = cursor.number(_U64)
    if n_bytes > _MAX_TEXT:
        raise BadGguf(
            f"the value of {_quoted(key)} has a length of {n_bytes} bytes, and {_MAX_TEXT} is the most"
        )
    cursor.need(n_bytes)
    start = cursor.position
    cursor.position += n_bytes
    if n_bytes > MAX_STRING_BYTES or not cursor.spend(n_bytes):
        return SkippedString(length=n_bytes)
    return _text(bytes(cursor.data[start : start + n_bytes]))


def _read_array(cursor: _Cursor, key: str) -> Value:
    type_ = _value_type(cursor.number(_I32), key)
    if type_ is ValueType.ARRAY:
        raise BadGguf(f"key {_quoted(key)} is an array of arrays, which llama.cpp does not read")
    length = cursor.number(_U64)
    if length > _MAX_TEXT:
        raise BadGguf(f"array {_quoted(key)} has {length} elements, and {_MAX_TEXT} is the most")
    start = cursor.position
    if type_ is ValueType.STRING:
        _skip_strings(cursor, length, key)
    else:
        cursor.need(length * _SCALARS[type_].size)
        cursor.position += length * _SCALARS[type_].size
    # four bytes an element at least: a Python int costs that much times eight
    if length > MAX_ARRAY_ITEMS or not cursor.spend(max(cursor.position - start, 4 * length)):
        return SkippedArray(element_type=int(type_), length=length)
    if type_ is ValueType.STRING:
        return _strings(cursor.data, start, length)
    return struct.unpack_from(f"<{length}{_FORMATS[type_]}", cursor.data, start)


def _skip_strings(cursor: _Cursor, length: int, key: str) -> None:
    """Step over `length` strings: the loop that decides how fast a vocabulary of 160k tokens is read."""
    unpack_from, data, position = _U64.unpack_from, cursor.data, cursor.position
    done = n_bytes = 0
    try:
        for done in range(length):  # noqa: B007 - read below, when the data end early
            (n_bytes,) = unpack_from(data, position)
            position += 8 + n_bytes
    except (struct.error, OverflowError):  # past the data, or past what an index can be
        pass
    else:
        done = length
    if n_bytes > _MAX_TEXT:
        raise BadGguf(
            f"a string of {_quoted(key)} has a length of {n_bytes} bytes, and {_MAX_TEXT} is the most"
        )
    if done < length or position > cursor.size:
        raise _Short(position + (length - done) * 8 + cursor.rest)
    cursor.position = position


def _strings(data: memoryview, start: int, length: int) -> tuple[str, ...]:
    values: list[str] = []
    for _ in range(length):
        (n_bytes,) = _U64.unpack_from(data, start)
        values.append(_text(bytes(data[start + 8 : start + 8 + n_bytes])))
        start += 8 + n_bytes
    return tuple(values)


def _read_tensors(cursor: _Cursor, n_tensors: int, alignment: int) -> tuple[tuple[TensorInfo, ...], int]:
    """The infos, and where the last tensor ends, relative to the data's beginning."""
    tensors: list[TensorInfo] = []
    seen: set[bytes] = set()
    offset = end = 0
    for index in range(n_tensors):
        rest = (n_tensors - index - 1) * _MIN_TENSOR_BYTES
        cursor.rest = rest + _MIN_TENSOR_BYTES - 8
        raw = cursor.string(f"the name of tensor {index}", _MAX_NAME - 1)
        name = _text(raw)
        if raw in seen:
            raise BadGguf(f"tensor {name!r} occurs twice")
        seen.add(raw)
        tensor = _read_tensor(cursor, name, rest)
        if tensor.offset != offset:
            raise BadGguf(f"tensor {name!r} has offset {tensor.offset}, and {offset} is expected")
        end = offset + tensor.size_bytes
        offset = _pad(end, alignment)
        if tensor.size_bytes > _SIZE_MAX - (alignment - 1) or offset > _SIZE_MAX:
            raise BadGguf(f"tensor {name!r} ends at byte {end}, beyond what 64 bits can address")
        tensors.append(tensor)
    return tuple(tensors), end


def _read_tensor(cursor: _Cursor, name: str, rest: int) -> TensorInfo:
    cursor.rest = rest + 12
    n_dims = cursor.number(_U32)
    if n_dims > _MAX_DIMS:
        raise BadGguf(f"tensor {name!r} has {n_dims} dimensions, and {_MAX_DIMS} is the most")
    cursor.need(8 * n_dims)
    shape: tuple[int, ...] = struct.unpack_from(f"<{n_dims}q", cursor.data, cursor.position)
    cursor.position += 8 * n_dims
    n_elements = _count_elements(name, shape)
    cursor.rest = rest + 8
    type_ = _ggml_type(cursor.number(_I32), name)
    per_block, block_bytes = BLOCKS[type_]
    row = shape[0] if shape else 1
    if row % per_block:
        raise BadGguf(
            f"tensor {name!r} has rows of {row} {type_.name} elements, not a multiple of {per_block}"
        )
    size_bytes = n_elements // per_block * block_bytes
    if size_bytes > _SIZE_MAX:
        raise BadGguf(f"tensor {name!r} of shape {shape} has {size_bytes} bytes, more than 64 bits can hold")
    cursor.rest = rest
    offset = cursor.number(_U64)
    return TensorInfo(name=name, shape=shape, type=type_, offset=offset, size_bytes=size_bytes)


def _count_elements(name: str, shape: tuple[int, ...]) -> int:
    n_elements = 1
    for n in shape:
        if n < 0:
            raise BadGguf(f"tensor {name!r} has a dimension of {n} elements")
        # gguf.cpp skips the test for 0 and 1, and a 0 before it makes every later product 0
        if n > 1 and n_elements > _INT64_MAX // n:
            raise BadGguf(f"tensor {name!r} of shape {shape} has more elements than 63 bits can count")
        n_elements *= n
    return n_elements


def _ggml_type(number: int, name: str) -> GgmlType:
    try:
        return GgmlType(number)
    except ValueError:
        pass
    if 0 <= number <= max(GgmlType):
        raise BadGguf(
            f"tensor {name!r} has ggml type {number}, which llama.cpp has removed",
            hint="choose a newer conversion of this model",
        )
    raise BadGguf(
        f"tensor {name!r} has ggml type {number}, and this llama.cpp knows 0 to {max(GgmlType):d}",
        hint="types above that come from forks such as ik_llama.cpp or from a newer llama.cpp: choose another quant",
    )


def _quoted(key: str) -> str:
    """A key for a message: escaped, and cut where a hostile one goes on."""
    return repr(key if len(key) <= 80 else key[:80] + "…")


def _pad(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def _text(raw: bytes) -> str:
    """UTF-8, with what is not UTF-8 kept readable: llama.cpp takes any bytes."""
    return raw.decode("utf-8", "backslashreplace")
