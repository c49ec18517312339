"""Decode one operation of a ggml graph from memory, with ggml.c's predicates on its tensors.

`Op` is what the backends' support rules (`support_*.py`) look at. Answers about an `Op` are cached by
`op_key`.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

from launcher.gguf.ggml import BLOCKS, GgmlType
from launcher.simulate.abi.layout import TensorOffsets

F32, F16, BF16 = GgmlType.F32, GgmlType.F16, GgmlType.BF16
I32, I64 = GgmlType.I32, GgmlType.I64

FLOATS = frozenset({F32, F16, BF16})
QUANTIZED = frozenset(BLOCKS) - FLOATS - {GgmlType.I8, GgmlType.I16, I32, I64, GgmlType.F64}

# of struct ggml_tensor (offsets: layout.TensorOffsets)
_TENSOR = struct.Struct("4q4Q")
_HEAD = struct.Struct(f"i4xQ4q4Qi{64}si10Q2Q")
_SOURCES = struct.Struct("10Q")
_N_SRC = 10
_read_bytes = ctypes.string_at

# enum ggml_unary_op, in order (ggml/include/ggml.h)
UNARY_NAMES = [
    "ABS",
    "SGN",
    "NEG",
    "STEP",
    "TANH",
    "ELU",
    "RELU",
    "SIGMOID",
    "GELU",
    "GELU_QUICK",
    "SILU",
    "HARDSWISH",
    "HARDSIGMOID",
    "EXP",
    "EXPM1",
    "SOFTPLUS",
    "GELU_ERF",
    "XIELU",
    "FLOOR",
    "CEIL",
    "ROUND",
    "TRUNC",
]


@dataclass(frozen=True, slots=True)
class Tensor:
    """`ne` elements and `nb` byte strides for each of ggml's four dimensions."""

    type: int
    ne: tuple[int, ...]
    nb: tuple[int, ...]

    @property
    def type_size(self) -> int:
        return BLOCKS[GgmlType(self.type)][1]

    @property
    def block_size(self) -> int:
        return BLOCKS[GgmlType(self.type)][0]

    @property
    def is_quantized(self) -> bool:
        return self.type in QUANTIZED

    @property
    def n_elements(self) -> int:
        return self.ne[0] * self.ne[1] * self.ne[2] * self.ne[3]

    @property
    def n_bytes(self) -> int:
        """Bytes from the first to the last element, gaps included (ggml_nbytes, ggml/src/ggml.c)."""
        if min(self.ne) <= 0:
            return 0
        block, size = BLOCKS[GgmlType(self.type)]
        first = size if block == 1 else self.ne[0] * self.nb[0] // block
        start = 0 if block == 1 else 1
        return first + sum((self.ne[i] - 1) * self.nb[i] for i in range(start, 4))

    def is_contiguous(self, free: int = 0, upto: int = 4) -> bool:
        """Return True if dimensions after `free` and before `upto` have no gaps between them."""
        # ggml_is_contiguous_m_n (ggml/src/ggml.c)
        block, step = BLOCKS[GgmlType(self.type)]
        if self.ne[0] != block and self.nb[0] != step:
            return False
        step = step * self.ne[0] // block
        for i in range(1, upto):
            if i > free:
                if self.ne[i] != 1 and self.nb[i] != step:
                    return False
                step *= self.ne[i]
            else:
                step = self.ne[i] * self.nb[i]
        return True

    @property
    def has_contiguous_rows(self) -> bool:
        """No gaps inside a row (ggml_is_contiguous_rows, ggml/src/ggml.c)."""
        return self.ne[0] == self.block_size or self.nb[0] == self.type_size


@dataclass(frozen=True, slots=True)
class Op(Tensor):
    """A graph node, which is its result tensor too."""

    name: str  # as ggml_op_name gives it
    params: bytes  # op_params
    flags: int
    src: tuple[Tensor | None, ...]
    v_is_k_view: bool  # of flash attention: V is a view of K (multi-head latent attention)
    offsets: tuple[int, ...]  # `view_offs` of the sources and, last, of the result

    def param(self, index: int) -> int:
        """Return op_params[index] as an int32."""
        value: int = struct.unpack_from("i", self.params, 4 * index)[0]
        return value

    def param_float(self, index: int) -> float:
        value: float = struct.unpack_from("f", self.params, 4 * index)[0]
        return value

    def source(self, index: int) -> Tensor:
        """Return a source that the operation always has. Raises LookupError if it is missing."""
        tensor = self.src[index]
        if tensor is None:
            raise LookupError(f"{self.name} has no source {index}")
        return tensor

    @property
    def sources(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in self.src if tensor is not None)


def source_addresses(head: bytes) -> tuple[int, ...]:
    """Return the addresses of a node's sources, 0 for none. `head` is its first HEAD_SIZE bytes."""
    return _SOURCES.unpack_from(head, TensorOffsets.SRC)


def op_key(head: bytes) -> bytes:
    """Return types, shapes, strides and parameters of a node: all that rules look at but view offsets."""
    # the sources' buffer addresses are in it too, which only splits some entries
    parts = [head[:4], head[TensorOffsets.NE : TensorOffsets.SRC]]
    parts += [
        _read_bytes(address, TensorOffsets.OP) if address else b"-" for address in source_addresses(head)
    ]
    return b"".join(parts)


def result_key(head: bytes) -> bytes:
    """Return type, shape, strides and parameters of a node alone, whatever its sources."""
    # alloc_size_cache_key (ggml-rpc.cpp)
    return head[:4] + head[TensorOffsets.NE : TensorOffsets.FLAGS]


def is_k_view(head: bytes) -> bool:
    """Return True if the V of a flash attention is a view of its K, which is not part of `op_key`."""
    addresses = source_addresses(head)
    return _is_k_view(addresses[2], addresses[1])


def decode_op(head: bytes, names: tuple[str, ...]) -> Op:
    """Return the node whose first bytes are `head`; its sources are read from memory."""
    type_, _, *rest = _HEAD.unpack_from(head)
    code, params, flags = rest[8], rest[9], rest[10]
    addresses = tuple(rest[11 : 11 + _N_SRC])
    return Op(
        type=type_,
        ne=tuple(rest[:4]),
        nb=tuple(rest[4:8]),
        name=names[code],
        params=params,
        flags=flags,
        src=tuple(_tensor_at(address) if address else None for address in addresses),
        v_is_k_view=_is_k_view(addresses[2], addresses[1]),
        offsets=(*(_view_offset(address) for address in addresses if address), rest[-1]),
    )


def _tensor_at(address: int) -> Tensor:
    data = ctypes.string_at(address, TensorOffsets.OP)
    shape = _TENSOR.unpack_from(data, TensorOffsets.NE)
    return Tensor(type=struct.unpack_from("i", data)[0], ne=shape[:4], nb=shape[4:])


def _view_offset(address: int) -> int:
    offset: int = ctypes.c_size_t.from_address(address + TensorOffsets.VIEW_OFFS).value
    return offset


def _is_k_view(v: int, k: int) -> bool:
    if not v or not k:
        return False
    v_of = ctypes.c_void_p.from_address(v + TensorOffsets.VIEW_SRC).value
    k_of = ctypes.c_void_p.from_address(k + TensorOffsets.VIEW_SRC).value
    return v_of is not None and (v_of == k or (v_of == k_of and _view_offset(v) == _view_offset(k)))
