"""Read the key-value pairs of a GGUF header."""

# Source: the first half of `gguf_init_from_reader` (ggml/src/gguf.cpp, llama.cpp 0c1e570).

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

from launcher.errors import BadGguf
from launcher.gguf.cursor import I32, U64, Cursor, Reading, quoted, read_whole, text


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedArray:
    """An array that was checked and stepped over, as the tokenizer's are."""

    element_type: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedString:
    """A string that was stepped over, such as an embedded tokenizer.json; `length` is in bytes."""

    length: int


MetadataScalar = int | float | bool | str
Value = MetadataScalar | tuple[MetadataScalar, ...] | SkippedArray | SkippedString


# Longer arrays and strings are stepped over. Those that matter are small: per-block arrays have at most
# LLAMA_MAX_LAYERS = 512 items (src/llama-hparams.h), chat templates tens of kB.
MAX_ARRAY_ITEMS = 4096
MAX_STRING_BYTES = 1 << 20

_MAX_TEXT = 1 << 30  # GGUF_MAX_STRING_LENGTH and GGUF_MAX_ARRAY_ELEMENTS, ggml/src/gguf.cpp
_MAX_KEY = (1 << 16) - 1  # docs/gguf.md: "must be at most 2^16-1 bytes long"
MAX_KEYS_BYTES = 1 << 20  # of all keys of a header, which are kept whatever their values; real ones have 3 KB
_DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT, ggml/include/gguf.h
_MIN_KV_BYTES = 14  # key length, one byte of key, type, one byte of value


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


def read_metadata(cursor: Cursor, n_kv: int, after: int) -> Reading[tuple[dict[str, Value], int]]:
    """Return the metadata and the alignment; at least `after` bytes follow them in the header."""
    metadata: dict[str, Value] = {}
    seen: set[bytes] = set()
    alignment = _DEFAULT_ALIGNMENT
    keys_bytes = 0

    for index in range(n_kv):
        cursor.rest = (n_kv - index - 1) * _MIN_KV_BYTES + after
        raw = yield from read_whole(cursor, partial(_read_key, index=index))
        key = text(raw)
        if raw in seen:
            raise BadGguf(f"key {quoted(key)} occurs twice")
        seen.add(raw)
        keys_bytes += len(raw)
        if keys_bytes > MAX_KEYS_BYTES:
            raise BadGguf(
                f"the first {index + 1} of {n_kv} keys have {keys_bytes} bytes, "
                f"and {MAX_KEYS_BYTES} is the most this reader takes"
            )
        type_ = yield from read_whole(cursor, partial(_read_type, key=key))
        if type_ is ValueType.ARRAY:
            value = yield from _read_array(cursor, key)
        else:
            value = yield from read_whole(cursor, partial(_read_scalar, type_=type_, key=key))
        if key == "general.alignment":
            alignment = _check_alignment(type_, value)
        metadata[key] = value
    return metadata, alignment


def _read_key(cursor: Cursor, index: int) -> bytes:
    raw = cursor.string(f"key {index}", _MAX_KEY)
    if not raw:
        raise BadGguf(f"key {index} is empty")
    return raw


def _read_type(cursor: Cursor, key: str) -> ValueType:
    return _value_type(cursor.number(I32), key)


def _value_type(number: int, key: str) -> ValueType:
    try:
        return ValueType(number)
    except ValueError:
        raise BadGguf(
            f"key {quoted(key)} has value type {number}, and 0 to {max(ValueType):d} are known"
        ) from None


def _check_alignment(type_: ValueType, value: Value) -> int:
    if type_ is not ValueType.U32 or not isinstance(value, int):
        raise BadGguf(f"general.alignment must be of type U32 and is {type_.name}")
    if value == 0 or value & (value - 1):
        raise BadGguf(f"general.alignment is {value}, which is not a power of two")
    return value


def _read_scalar(cursor: Cursor, type_: ValueType, key: str) -> Value:
    if type_ is not ValueType.STRING:
        format_ = _SCALARS[type_]
        cursor.need(format_.size)
        (value,) = format_.unpack_from(cursor.data, cursor.position)
        cursor.position += format_.size
        number: int | float | bool = value
        return number
    n_bytes = cursor.number(U64)
    if n_bytes > _MAX_TEXT:
        raise BadGguf(
            f"the value of {quoted(key)} has a length of {n_bytes} bytes, and {_MAX_TEXT} is the most"
        )
    cursor.need(n_bytes)
    start = cursor.position
    cursor.position += n_bytes
    if n_bytes > MAX_STRING_BYTES or not cursor.reserve(n_bytes):
        return SkippedString(length=n_bytes)
    return text(bytes(cursor.data[start : start + n_bytes]))


def _read_array(cursor: Cursor, key: str) -> Reading[Value]:
    type_, length = yield from read_whole(cursor, partial(_read_array_head, key=key))
    start = cursor.position
    if type_ is ValueType.STRING:
        yield from _skip_strings(cursor, length, key)
    else:
        n_bytes = length * _SCALARS[type_].size
        yield from read_whole(cursor, lambda cursor: cursor.need(n_bytes))
        cursor.position += n_bytes
    # four bytes an element at least: a Python int costs that much times eight
    if length > MAX_ARRAY_ITEMS or not cursor.reserve(max(cursor.position - start, 4 * length)):
        return SkippedArray(element_type=int(type_), length=length)
    if type_ is ValueType.STRING:
        return _strings(cursor.data, start, length)
    return struct.unpack_from(f"<{length}{_FORMATS[type_]}", cursor.data, start)


def _read_array_head(cursor: Cursor, key: str) -> tuple[ValueType, int]:
    type_ = _value_type(cursor.number(I32), key)
    if type_ is ValueType.ARRAY:
        raise BadGguf(f"key {quoted(key)} is an array of arrays, which llama.cpp does not read")
    length = cursor.number(U64)
    if length > _MAX_TEXT:
        raise BadGguf(f"array {quoted(key)} has {length} elements, and {_MAX_TEXT} is the most")
    return type_, length


def _skip_strings(cursor: Cursor, length: int, key: str) -> Reading[None]:
    """Step over `length` strings."""
    done = 0
    while True:
        done, position, n_bytes = _step_over(cursor, done, length)
        if n_bytes > _MAX_TEXT:
            raise BadGguf(
                f"a string of {quoted(key)} has a length of {n_bytes} bytes, and {_MAX_TEXT} is the most"
            )
        cursor.position = position
        if done == length and position <= cursor.size:
            return
        yield position + (length - done) * 8 + cursor.rest


def _step_over(cursor: Cursor, done: int, length: int) -> tuple[int, int, int]:
    """Step over the strings from `done` on whose lengths are here.

    Return how many are behind then, where the next one begins, and the last length.
    """
    # this loop decides how fast a vocabulary of 160k tokens is read
    unpack_from, data, position = U64.unpack_from, cursor.data, cursor.position
    n_bytes = 0
    try:
        for index in range(done, length):  # noqa: B007 - returned where the data end early
            (n_bytes,) = unpack_from(data, position)
            position += 8 + n_bytes
    except (struct.error, OverflowError):  # past the data, or past what an index can be
        return index, position, n_bytes
    return length, position, n_bytes


def _strings(data: memoryview, start: int, length: int) -> tuple[str, ...]:
    values: list[str] = []
    for _ in range(length):
        (n_bytes,) = U64.unpack_from(data, start)
        values.append(text(bytes(data[start + 8 : start + 8 + n_bytes])))
        start += 8 + n_bytes
    return tuple(values)
