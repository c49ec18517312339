"""Read the tensor infos of a GGUF header."""

# Source: the second half of `gguf_init_from_reader` (ggml/src/gguf.cpp, llama.cpp 0c1e570).

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial

from launcher.errors import BadGguf
from launcher.gguf.cursor import I32, U32, U64, Cursor, Reading, name_of, read_whole
from launcher.gguf.ggml import BLOCKS, ROW_BYTES, GgmlType, was_removed

_MAX_NAME = 64  # GGML_MAX_NAME, ggml/include/ggml.h, with its final NUL
_MAX_DIMS = 4  # GGML_MAX_DIMS
_INT64_MAX = (1 << 63) - 1
_SIZE_MAX = (1 << 64) - 1
MIN_TENSOR_BYTES = 24  # name length, n_dims, type, offset


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor as its header describes it."""

    name: str
    shape: tuple[int, ...]  # ggml's ne order: the row length first
    type: GgmlType
    offset: int  # relative to the header's data_offset
    size_bytes: int  # without padding


def read_tensors(
    cursor: Cursor, n_tensors: int, alignment: int
) -> Reading[tuple[tuple[TensorInfo, ...], int]]:
    """Return the infos, and where the last tensor ends, relative to the beginning of the data."""
    tensors: list[TensorInfo] = []
    seen: set[str] = set()
    offset = end = 0
    for index in range(n_tensors):
        cursor.rest = (n_tensors - index - 1) * MIN_TENSOR_BYTES
        tensor = yield from read_whole(cursor, partial(_read_tensor, index=index))
        if tensor.name in seen:
            raise BadGguf(f"tensor {tensor.name!r} occurs twice")
        seen.add(tensor.name)
        if tensor.offset != offset:
            raise BadGguf(f"tensor {tensor.name!r} has offset {tensor.offset}, and {offset} is expected")
        end = offset + tensor.size_bytes
        offset = pad(end, alignment)
        if offset > _SIZE_MAX:
            raise BadGguf(f"tensor {tensor.name!r} ends at byte {end}, beyond what 64 bits can address")
        tensors.append(tensor)
    return tuple(tensors), end


def _read_tensor(cursor: Cursor, index: int) -> TensorInfo:
    rest = cursor.rest
    cursor.rest = rest + MIN_TENSOR_BYTES - 8
    raw = cursor.string(f"the name of tensor {index}", _MAX_NAME - 1)
    # ggml_set_name takes a C string: what follows a NUL is not part of the name
    name = name_of(raw.partition(b"\0")[0])
    cursor.rest = rest + 12
    n_dims = cursor.number(U32)
    if n_dims > _MAX_DIMS:
        raise BadGguf(f"tensor {name!r} has {n_dims} dimensions, and {_MAX_DIMS} is the most")
    cursor.need(8 * n_dims)
    shape: tuple[int, ...] = struct.unpack_from(f"<{n_dims}q", cursor.data, cursor.position)
    cursor.position += 8 * n_dims
    n_elements = _count_elements(name, shape)
    cursor.rest = rest + 8
    type_ = _ggml_type(cursor.number(I32), name)
    per_block, block_bytes = BLOCKS[type_]
    row = shape[0] if shape else 1
    if row % per_block:
        raise BadGguf(
            f"tensor {name!r} has rows of {row} {type_.name} elements, not a multiple of {per_block}"
        )
    size_bytes = n_elements // per_block * block_bytes
    if type_ in ROW_BYTES and n_elements:
        size_bytes += n_elements // row * ROW_BYTES[type_]
    cursor.rest = rest
    offset = cursor.number(U64)
    return TensorInfo(name=name, shape=shape, type=type_, offset=offset, size_bytes=size_bytes)


def _count_elements(name: str, shape: tuple[int, ...]) -> int:
    n_elements = 1
    for n in shape:
        if n < 0:
            raise BadGguf(f"tensor {name!r} has a dimension of {n} elements")
        # a 0 makes every later product 0, as in gguf.cpp
        if n and n_elements > _INT64_MAX // n:
            raise BadGguf(f"tensor {name!r} of shape {shape} has more elements than 63 bits can count")
        n_elements *= n
    return n_elements


def _ggml_type(number: int, name: str) -> GgmlType:
    try:
        return GgmlType(number)
    except ValueError:
        pass
    if was_removed(number):
        raise BadGguf(
            f"tensor {name!r} has ggml type {number}, which llama.cpp has removed",
            hint="choose a newer conversion of this model",
        )
    raise BadGguf(
        f"tensor {name!r} has ggml type {number}, which neither llama.cpp nor ik_llama.cpp has here",
        hint="it comes from another fork or from a newer llama.cpp: choose another quant",
    )


def pad(n: int, alignment: int) -> int:
    """Round `n` up to a multiple of `alignment`."""
    return -(-n // alignment) * alignment
