"""Answer ggml's questions about one operation: supports_op, offload_op and get_alloc_size.

A graph of thousands of nodes asks about a few dozen distinct operations: answers are kept by `op_key`.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from ctypes import c_int, c_size_t

from launcher.simulate.abi.binding import Binding
from launcher.simulate.abi.layout import BUFT_IN_BUFFER, TensorOffsets
from launcher.simulate.abi.ops import (
    QUANTIZED,
    decode_op,
    is_k_view,
    op_key,
    result_key,
    source_addresses,
)
from launcher.simulate.backends.traits import OFFLOAD_MIN_BATCH, Traits

_NE = struct.Struct("4q")


def supports_op(
    op_names: tuple[str, ...], traits: Traits, own_buft: int, siblings: AbstractSet[int]
) -> Callable[[int, int], bool]:
    """Make a device's supports_op; `own_buft` is its buffer type, `siblings` those of its family."""
    always = frozenset(code for code, name in enumerate(op_names) if name in traits.always)
    # `op_key` lacks the offsets of views, on which these depend
    uncached = frozenset(code for code, name in enumerate(op_names) if name in traits.offset_ops)
    known: dict[bytes, bool] = {}
    checks_sources = traits.checks_sources
    # bound once: this runs 100,000 times for a large model
    read_bytes, size_at = ctypes.string_at, c_size_t.from_address

    def is_on_sibling(source: int) -> bool:
        buffer = size_at(source + TensorOffsets.BUFFER).value
        if not buffer:
            return False
        buft = size_at(buffer + BUFT_IN_BUFFER).value
        return buft != own_buft and buft in siblings

    def callback(_device: int, op: int) -> bool:
        head = read_bytes(op, TensorOffsets.HEAD_SIZE)
        if checks_sources:
            for source in source_addresses(head):
                if source and is_on_sibling(source):
                    return False
        code = head[TensorOffsets.OP]
        if code in always:
            return True
        if code in uncached:
            return traits.supports(decode_op(head, op_names))
        key = op_key(head)
        verdict = known.get(key)
        if verdict is None:
            verdict = known[key] = traits.supports(decode_op(head, op_names))
        return verdict

    return callback


def offload_op(op_names: tuple[str, ...], traits: Traits) -> Callable[[int, int], bool]:
    """Make a device's offload_op, which accepts operations that are worth copying host weights for."""
    # get_op_batch_size and offload_op in ggml-cuda.cu, ggml-vulkan-debug.cpp, ggml-metal.cpp, ggml-sycl.cpp
    tokens_in_dim_2 = frozenset(("MUL_MAT_ID", "ROPE", "ROPE_BACK"))

    def callback(_device: int, op: int) -> bool:
        name = op_names[c_int.from_address(op + TensorOffsets.OP).value]
        if name == "GET_ROWS" or (traits.offload_ops is not None and name not in traits.offload_ops):
            return False
        ne = _NE.unpack(ctypes.string_at(op + TensorOffsets.NE, _NE.size))
        n_tokens: int = (
            ne[1] if name == "MUL_MAT" else ne[2] if name in tokens_in_dim_2 else ne[1] * ne[2] * ne[3]
        )
        return n_tokens >= OFFLOAD_MIN_BATCH

    return callback


def alloc_size(binding: Binding, traits: Traits, known: dict[bytes, int]) -> Callable[[int, int], int]:
    """Make a buffer type's get_alloc_size: the bytes of a tensor with padding and scratch memory.

    Answers are kept in `known`.
    """
    op_names, n_bytes = binding.op_names, binding.base.ggml_nbytes
    scratch = frozenset(code for code, name in enumerate(op_names) if name in traits.scratch_ops)
    padded = QUANTIZED if traits.row_padding else frozenset[int]()

    def callback(_buft: int, tensor: int) -> int:
        code = c_int.from_address(tensor + TensorOffsets.OP).value
        # a tensor begins with its type
        if code not in scratch and c_int.from_address(tensor).value not in padded:
            plain: int = n_bytes(tensor)
            return plain
        head = ctypes.string_at(tensor, TensorOffsets.HEAD_SIZE)
        key = result_key(head) if traits.forgets_sources else op_key(head) + bytes((is_k_view(head),))
        size = known.get(key)
        if size is None:
            size = known[key] = traits.alloc_bytes(decode_op(head, op_names))
        return size

    return callback
