"""What the Metal backend can run, and what its tensors take besides their data.

Sources, at llama.cpp 0c1e570: ggml_metal_device_supports_op (ggml/src/ggml-metal/ggml-metal-device.m) for
Apple silicon with simdgroup matrices and bfloat (M1 and later, Metal 3), and
ggml_backend_metal_buffer_type_get_alloc_size (ggml-metal.cpp, ggml-metal-ops.cpp).
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.gguf.ggml import BLOCKS
from launcher.gguf.ggml import GgmlType as T
from launcher.machine.machine import Backend
from launcher.plan.memory.kernels import NO_KERNEL
from launcher.simulate.abi.ops import BF16, F16, F32, I32, Op

# types MUL_MAT and MUL_MAT_ID take as weights
MATRIX_TYPES = frozenset(BLOCKS) - NO_KERNEL[Backend.METAL]

_HEADS = (32, 40, 48, 64, 72, 80, 96, 112, 128, 192, 256, 320, 512, 576)
_CACHE_TYPES = frozenset(T[name] for name in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
_FROM_F32 = frozenset(
    T[name]
    for name in [
        "F32",
        "F16",
        "BF16",
        "Q8_0",
        "Q1_0",
        "Q2_0",
        "Q4_0",
        "Q4_1",
        "Q5_0",
        "Q5_1",
        "IQ4_NL",
        "TQ2_0",
        "I32",
    ]
)
_TO_HALF = frozenset(T[name] for name in ["Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ2_0"])
_SET_ROWS = frozenset(
    T[name] for name in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "TQ2_0"]
)
_CONCAT = frozenset(
    T[name]
    for name in ["F32", "F16", "BF16", "I8", "I16", "I32", "I64", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
)
_HALVES = (F32, F16)
# ggml-metal-impl.h
_CHUNK = 64  # OP_FLASH_ATTN_EXT_NCPSG: keys per simdgroup of the matrix kernel
_QUERIES = 8  # OP_FLASH_ATTN_EXT_NQPSG
_VECTOR_CHUNK = 32
_VECTOR_MAX_BATCH = 20
_WORKGROUPS = 32
_SCALES = 256  # N_MM_NPART_AMAX


def supports(op: Op) -> bool:
    """Return True if an Apple silicon GPU can run the operation."""
    rule = _RULES.get(op.name)
    return rule is not None and rule(op)


def alloc_bytes(op: Op) -> int:
    """Return the bytes of a tensor, with the scratch memory behind the results of some operations."""
    if op.name == "MUL_MAT_ID":
        n_expert, n_token = op.source(0).ne[2], op.source(2).ne[1]
        return op.n_bytes + 4 * n_expert + 4 * n_expert * n_token + 8 + 4 * _SCALES
    if op.name == "FLASH_ATTN_EXT":
        return op.n_bytes + _attention_scratch(op)
    if op.name in ("CUMSUM", "ARGSORT"):
        return 2 * op.n_bytes
    if op.name == "TOP_K":
        return 2 * 4 * op.source(0).n_elements
    return op.n_bytes


def _attention_scratch(op: Op) -> int:
    """Return the scratch bytes of flash attention, without those of sparse masks."""
    # ggml_metal_op_flash_attn_ext_extra_pad, _blk, _tmp and _kv_f16, without _idx
    q, k, v, mask = op.source(0), op.source(1), op.source(2), op.src[3]
    converts = q.ne[1] >= _VECTOR_CHUNK and k.is_quantized
    k_row = 2 * k.ne[0] if converts else k.nb[1]
    v_row = 2 * (k.ne[0] if op.v_is_k_view else v.ne[0]) if converts else v.nb[1]
    pad = k_row * k.ne[2] * k.ne[3] + v_row * v.ne[2] * v.ne[3]
    blocks = 0
    if mask is not None:
        pad += 2 * mask.ne[1] * mask.ne[2] * mask.ne[3]
        is_vector = q.ne[1] < _VECTOR_MAX_BATCH and q.ne[0] % 32 == 0
        queries, keys = (1, _VECTOR_CHUNK) if is_vector else (_QUERIES, _CHUNK)
        grid = -(-q.ne[1] // queries) * -(-mask.ne[0] // keys)
        blocks = -(-grid * mask.ne[2] * mask.ne[3] // 32) * 32
    partial = 4 * min(q.ne[1], 32) * q.ne[2] * q.ne[3] * _WORKGROUPS * (v.ne[0] + 2)
    copies = -(-2 * k.n_elements // 16) * 16
    if not op.v_is_k_view:
        copies += -(-2 * v.n_elements // 16) * 16
    return _CHUNK * pad + blocks + partial + copies


def _half_rows(op: Op) -> bool:
    return op.source(0).has_contiguous_rows and op.source(0).type in _HALVES


def _elementwise(op: Op) -> bool:
    a, b = op.source(0), op.source(1)
    return a.has_contiguous_rows and b.has_contiguous_rows and a.type in _HALVES and a.type == b.type


def _multiply(op: Op) -> bool:
    weights, x = op.source(0), op.source(1)
    if weights.type not in MATRIX_TYPES:
        return False
    if x.type != F16:
        return True
    if weights.type == BF16:
        return False
    if op.name == "MUL_MAT" and weights.type == F16:
        return True
    return weights.ne[0] >= 64 and x.ne[1] > 8


def _flash_attention(op: Op) -> bool:
    q, k, v = op.source(0), op.source(1), op.source(2)
    return (
        q.ne[0] in _HEADS
        and (k.ne[0] != 72 or k.ne[0] == v.ne[0])
        and k.ne[0] >= v.ne[0]
        and k.type == v.type
        and k.type in _CACHE_TYPES
    )


def _lightning_indexer(op: Op) -> bool:
    q, k, w, mask = op.source(0), op.source(1), op.source(2), op.source(3)
    rows = all(tensor.has_contiguous_rows for tensor in (q, k, w, mask))
    types = q.type == w.type == op.type == F32 and mask.type == F16 and k.type in _CACHE_TYPES
    return q.ne[:2] == (128, 64) and types and rows


def _copy(op: Op) -> bool:
    source = op.source(0).type
    if source == F32:
        return op.type in _FROM_F32
    if source in (F16, BF16):
        return op.type in (F32, source)
    if source in _TO_HALF:
        return op.type in _HALVES
    return source == I32 and op.type in (F32, I32)


def _set_rows(op: Op) -> bool:
    source = op.source(0).type
    return (source == op.type == F16) or (source == F32 and op.type in _SET_ROWS)


def _concat(op: Op) -> bool:
    return op.source(0).type == op.source(1).type == op.type and op.type in _CONCAT


def _all_f32_rows(op: Op) -> bool:
    return op.type == F32 and all(t.type == F32 and t.has_contiguous_rows for t in op.sources)


def _rows(op: Op) -> bool:
    return op.source(0).has_contiguous_rows


def _f32_source(op: Op) -> bool:
    return op.source(0).type == F32


def _convolution(op: Op) -> bool:
    kernel, x = op.source(0), op.source(1)
    return kernel.type in _HALVES and x.type == F32 and op.type == F32


# supported whatever their operands are
ALWAYS = frozenset(
    [
        "NONE",
        "RESHAPE",
        "VIEW",
        "TRANSPOSE",
        "PERMUTE",
        "REPEAT",
        "CONV_TRANSPOSE_1D",
        "ARGMAX",
        "ROPE",
        "ROPE_BACK",
        "ARGSORT",
        "TOP_K",
        "ARANGE",
        "SSM_SCAN",
        "SSM_CONV",
        "RWKV_WKV6",
        "RWKV_WKV7",
        "DIAG",
    ]
)

# an operation without a rule is not supported
_RULES: dict[str, Callable[[Op], bool]] = {
    **dict.fromkeys(ALWAYS, lambda _op: True),
    **dict.fromkeys(("SCALE", "FILL", "CLAMP", "SQR", "SQRT", "SIN", "COS", "LOG", "UNARY"), _half_rows),
    "GLU": lambda op: op.source(0).is_contiguous(1) and op.source(0).type in _HALVES,
    "CONCAT": _concat,
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "ADD_ID"), _elementwise),
    "ACC": lambda op: _f32_source(op) and _rows(op) and op.source(1).has_contiguous_rows,
    "SUM": lambda op: op.source(0).is_contiguous(),
    **dict.fromkeys(
        ("TRI", "SUM_ROWS", "CUMSUM", "MEAN", "SOFT_MAX", "GROUP_NORM", "L2_NORM", "NORM", "RMS_NORM"), _rows
    ),
    "IM2COL": lambda op: op.source(1).is_contiguous() and op.source(1).type == F32 and op.type in _HALVES,
    **dict.fromkeys(("CONV_2D", "CONV_2D_DW", "CONV_3D", "CONV_TRANSPOSE_2D"), _convolution),
    **dict.fromkeys(
        ("UPSCALE", "POOL_2D", "PAD", "PAD_REFLECT_1D", "TIMESTEP_EMBEDDING", "SOLVE_TRI"), _f32_source
    ),
    "POOL_1D": lambda op: _f32_source(op) and op.source(0).is_contiguous(),
    "LEAKY_RELU": lambda op: op.source(0).type in _HALVES,
    "ROLL": lambda op: op.source(0).is_contiguous(),
    "FLASH_ATTN_EXT": _flash_attention,
    "LIGHTNING_INDEXER": _lightning_indexer,
    "DSV4_HC_COMB": lambda op: _all_f32_rows(op) and op.source(0).ne[0] == op.source(2).ne[0] == 24,
    "DSV4_HC_PRE": _all_f32_rows,
    "DSV4_HC_POST": lambda op: _all_f32_rows(op) and op.source(1).ne[1] == 4,
    "GATED_DELTA_NET": lambda op: op.source(2).ne[0] % 32 == 0,
    **dict.fromkeys(("MUL_MAT", "MUL_MAT_ID"), _multiply),
    **dict.fromkeys(("SET", "CPY", "DUP", "CONT"), _copy),
    "GET_ROWS": lambda op: op.source(0).type in MATRIX_TYPES,
    "SET_ROWS": _set_rows,
    "COUNT_EQUAL": lambda op: op.source(0).type == op.source(1).type == I32,
}
