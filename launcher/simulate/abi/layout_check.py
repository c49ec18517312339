"""Check that the structures of `layout` fit the library that is loaded.

GGML_BACKEND_API_VERSION covers the backend interface, not ggml_tensor or ggml_cgraph. So a multiplication of
two known tensors is built through ggml's public functions and read back through the offsets.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL, c_int, c_int64, c_void_p

from launcher.gguf.ggml import GgmlType
from launcher.simulate.abi.layout import Graph, InitParameters, TensorOffsets
from launcher.simulate.abi.ops import decode_op

_CONTEXT_BYTES = 1 << 20
_ROW, _COLUMNS, _TOKENS = 96, 7, 5  # all different, so that no two dimensions can be confused
_NAME = b"layout check"
_WEIGHTS = GgmlType.Q8_0


class Unavailable(Exception):
    """The simulator cannot run on these libraries; the message says why in one sentence."""


def check_layouts(base: CDLL) -> None:
    """Raise Unavailable if libggml-base lays out its tensors or graphs in another way."""
    with _context(base) as context:
        new_tensor = base.ggml_new_tensor_2d
        new_tensor.restype, new_tensor.argtypes = c_void_p, (c_void_p, c_int, c_int64, c_int64)
        multiply = base.ggml_mul_mat
        multiply.restype, multiply.argtypes = c_void_p, (c_void_p, c_void_p, c_void_p)
        base.ggml_set_name.restype, base.ggml_set_name.argtypes = c_void_p, (c_void_p, ctypes.c_char_p)
        weights = new_tensor(context, _WEIGHTS, _ROW, _COLUMNS)
        x = new_tensor(context, GgmlType.F32, _ROW, _TOKENS)
        product = multiply(context, weights, x)
        base.ggml_set_name(product, _NAME)
        if not _reads_back(base, product) or not _graph_reads_back(base, context, product):
            raise Unavailable("the engine's ggml lays out its tensors in a way this simulator does not know")


@contextmanager
def _context(base: CDLL) -> Iterator[int]:
    base.ggml_init.restype, base.ggml_init.argtypes = c_void_p, (InitParameters,)
    base.ggml_free.restype, base.ggml_free.argtypes = None, (c_void_p,)
    context = base.ggml_init(InitParameters(mem_size=_CONTEXT_BYTES, mem_buffer=None, no_alloc=True))
    try:
        yield context
    finally:
        base.ggml_free(context)


def _reads_back(base: CDLL, product: int) -> bool:
    names = tuple(
        base.ggml_op_name(code).decode()
        for code in range(ctypes.c_uint8.from_address(product + TensorOffsets.OP).value + 1)
    )
    op = decode_op(ctypes.string_at(product, TensorOffsets.HEAD_SIZE), names)
    weights, x = op.source(0), op.source(1)
    return (
        op.name == "MUL_MAT"
        and (weights.type, weights.ne) == (_WEIGHTS, (_ROW, _COLUMNS, 1, 1))
        and (x.type, x.ne) == (GgmlType.F32, (_ROW, _TOKENS, 1, 1))
        and (op.type, op.ne, op.nb[1]) == (GgmlType.F32, (_COLUMNS, _TOKENS, 1, 1), 4 * _COLUMNS)
        and op.n_bytes == base.ggml_nbytes(product)
        and weights.n_bytes == _COLUMNS * _ROW // 32 * 34
        and ctypes.string_at(product + TensorOffsets.NAME, len(_NAME)) == _NAME
    )


def _graph_reads_back(base: CDLL, context: int, product: int) -> bool:
    base.ggml_new_graph.restype, base.ggml_new_graph.argtypes = c_void_p, (c_void_p,)
    expand = base.ggml_build_forward_expand
    expand.restype, expand.argtypes = None, (c_void_p, c_void_p)
    address = base.ggml_new_graph(context)
    expand(address, product)
    graph = Graph.from_address(address)
    slot = (product >> 4) % graph.hash_size if graph.hash_size else 0
    return bool(graph.n_nodes == 1 and graph.nodes[0] == product and graph.hash_keys[slot] == product)
