"""Raw GGUF header bytes for any metadata and tensors, sound or hostile, with nothing but struct."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from launcher.gguf.ggml import BLOCKS, ROW_BYTES, GgmlType
from launcher.gguf.header import ValueType

FORMATS = {
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


@dataclass(frozen=True, slots=True)
class Typed:
    """A value with its GGUF type spelled out; a list with its elements' type."""

    type: int
    value: object


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape` in ggml's order, row length first. `offset` None is the right one."""

    name: str | bytes
    shape: tuple[int, ...] = (32,)
    type: int = GgmlType.F32
    offset: int | None = None

    @property
    def size_bytes(self) -> int:
        per_block, size = BLOCKS[GgmlType(self.type)]
        rows = math.prod(self.shape[1:]) if math.prod(self.shape) else 0
        return math.prod(self.shape) // per_block * size + rows * ROW_BYTES.get(GgmlType(self.type), 0)


def build_header(
    metadata: Mapping[str, object] | Iterable[tuple[str | bytes, object]] = (),
    tensors: Iterable[Tensor] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_kv: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A header up to where tensor data begins, padding included. Counts are those given, else the true ones;
    `alignment` is what the padding and offsets follow, whatever the metadata say.
    """
    pairs = list(metadata.items() if isinstance(metadata, Mapping) else metadata)
    infos = list(tensors)
    out = bytearray(magic + struct.pack("<I", version))
    out += struct.pack("<Q", (len(infos) if n_tensors is None else n_tensors) % 2**64)
    out += struct.pack("<Q", (len(pairs) if n_kv is None else n_kv) % 2**64)
    for key, value in pairs:
        out += text(key) + typed(value)
    offset = 0
    for tensor in infos:
        out += text(tensor.name) + struct.pack("<I", len(tensor.shape))
        out += b"".join(struct.pack("<q", n) for n in tensor.shape)
        out += struct.pack("<iQ", tensor.type, offset if tensor.offset is None else tensor.offset)
        if tensor.offset is None:
            offset += -(-tensor.size_bytes // alignment) * alignment
    return bytes(out) + bytes(-len(out) % alignment if infos else 0)


def text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def typed(value: object) -> bytes:
    """Type and value: bool, int (u32), float (f32), str, a list or tuple of these, or a Typed."""
    if isinstance(value, Typed):
        if isinstance(value.value, list | tuple):
            items = value.value
            return struct.pack("<iiQ", ValueType.ARRAY, value.type, len(items)) + _items(value.type, items)
        return struct.pack("<i", value.type) + _items(value.type, [value.value])
    if isinstance(value, list | tuple):
        return typed(Typed(_type_of(value[0]), value))
    return typed(Typed(_type_of(value), value))


def _type_of(value: object) -> ValueType:
    kinds = {bool: ValueType.BOOL, int: ValueType.U32, float: ValueType.F32, str: ValueType.STRING}
    return kinds[type(value)]


def _items(type_: int, items: list[object] | tuple[object, ...]) -> bytes:
    if type_ == ValueType.STRING:
        return b"".join(text(item) for item in items)  # type: ignore[arg-type]
    return struct.pack(f"<{len(items)}{FORMATS[ValueType(type_)]}", *items)
