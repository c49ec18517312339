"""What the SYCL backend can run, and what its tensors take.

Sources, at llama.cpp 0c1e570, built with oneDNN and without GGML_SYCL_FA_ALL_QUANTS (the defaults):
do_ggml_backend_sycl_device_supports_op and ggml_backend_sycl_buffer_type_get_alloc_size in
ggml/src/ggml-sycl/ggml-sycl.cpp, flash attention in fattn.cpp.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.gguf.ggml import BLOCKS
from launcher.gguf.ggml import GgmlType as T
from launcher.machine.machine import Backend
from launcher.plan.memory.kernels import NO_KERNEL
from launcher.simulate.abi.ops import F16, F32, FLOATS, I32, I64, UNARY_NAMES, Op

# types MUL_MAT and MUL_MAT_ID take as weights
MATRIX_TYPES = frozenset(BLOCKS) - NO_KERNEL[Backend.SYCL]
ROW_PADDING = 512  # MATRIX_ROW_PADDING (ggml/src/ggml-sycl/presets.hpp)

_ROW_TYPES = MATRIX_TYPES - {T.Q2_0, T.Q8_1, T.Q8_K, T.I8, T.I16, T.I64, T.F64}
_K_AND_IQ = frozenset(
    T[name]
    for name in [
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ2_S",
        "IQ3_XXS",
        "IQ1_S",
        "IQ1_M",
        "IQ3_S",
        "IQ4_XS",
    ]
)
_TERNARY = frozenset({T.TQ1_0, T.TQ2_0})
_INDEXER_K_TYPES = frozenset(
    T[name] for name in ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL"]
)
_SQUARE_HEADS = (40, 64, 72, 80, 96, 112, 128, 256, 512)
_KV_TYPES = frozenset({T.Q4_0, T.Q8_0}) | FLOATS
_ONEDNN_KV_TYPES = frozenset(T[name] for name in ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
_KQ_STRIDE = 256
_ALIGNMENT = 128
_MAX_TRIANGLE = 64


def supports(op: Op) -> bool:
    """Return True if an Intel GPU can run the operation."""
    rule = _RULES.get(op.name)
    return rule is not None and rule(op)


def alloc_bytes(op: Op) -> int:
    """Return the bytes of a tensor, with the padding of quantised rows and copies of flash attention."""
    n_bytes = op.n_bytes
    if op.name == "FLASH_ATTN_EXT":
        n_bytes = _attention_bytes(op, n_bytes)
    if op.is_quantized and op.ne[0] % ROW_PADDING:
        block, size = BLOCKS[T(op.type)]
        n_bytes += (ROW_PADDING - op.ne[0] % ROW_PADDING) // block * size
    return n_bytes


def _attention_bytes(op: Op, n_bytes: int) -> int:
    # ggml_sycl_fattn_get_extra: f16 copies, the worst case over its kernels
    q, k, v = op.source(0), op.source(1), op.source(2)
    onednn = _onednn(op)
    heads = q.ne[2] * q.ne[1] * k.ne[0] if onednn else 0
    binds = k.type == v.type == F16
    need_k = k.n_elements if k.type != F16 or (onednn and not binds) else 0
    need_v = v.n_elements if v.type != F16 or (onednn and not binds) else 0
    if op.v_is_k_view and not onednn and need_v:
        need_v = 0
    for halves in (heads, need_k, need_v, int(onednn), heads):
        if halves:
            n_bytes = -(-n_bytes // _ALIGNMENT) * _ALIGNMENT + 2 * halves
    return n_bytes


def _onednn(op: Op) -> bool:
    k, v, mask = op.source(1), op.source(2), op.src[3]
    plain = op.src[4] is None and op.param_float(1) == 0.0 and op.param_float(2) == 0.0
    masked = mask is not None and mask.type == F16 and mask.ne[2] == mask.ne[3] == 1
    return k.type in _ONEDNN_KV_TYPES and v.type in _ONEDNN_KV_TYPES and plain and masked


def _flash_attention(op: Op) -> bool:
    q, k, v, mask = op.source(0), op.source(1), op.source(2), op.src[3]
    if _onednn(op) and k.type == v.type == F16:
        return True
    if k.ne[0] == 576:
        grouped = q.ne[2] // k.ne[2] >= 2 and mask is not None and k.ne[1] % _KQ_STRIDE == 0
        if v.ne[0] != 512 or not grouped or op.param_float(1) != 0.0:
            return False
    elif k.ne[0] not in _SQUARE_HEADS or v.ne[0] != k.ne[0]:
        return False
    return k.type == v.type and k.type in _KV_TYPES and (mask is None or mask.ne[2] == 1)


def _multiply(op: Op) -> bool:
    weights, x = op.source(0), op.source(1)
    return weights.ne[3] == x.ne[3] and weights.type in MATRIX_TYPES


def _set_rows(op: Op) -> bool:
    return op.type not in _TERNARY and op.source(0).type in FLOATS and op.source(1).type in (I32, I64)


def _copy(op: Op) -> bool:
    a, b = op.source(0).type, op.source(1).type
    if a in _TERNARY or b in _TERNARY or (a in FLOATS and b in _K_AND_IQ):
        return False
    return not (b == F32 and a in _K_AND_IQ | {T.Q1_0, T.NVFP4, T.IQ4_NL})


def _all_f32(op: Op) -> bool:
    return op.type == F32 and all(tensor.type == F32 for tensor in op.sources)


def _lightning_indexer(op: Op) -> bool:
    q, k, w, mask = op.source(0), op.source(1), op.source(2), op.source(3)
    types = q.type == w.type == op.type == F32 and mask.type == F16
    return types and k.type in _INDEXER_K_TYPES and q.ne[0] == 128


def _ssm_scan(op: Op) -> bool:
    state = op.source(0)
    return op.source(3).ne[0] == 1 and state.ne[0] in (128, 256) and state.ne[1] % 16 == 0


def _solve_tri(op: Op) -> bool:
    return op.source(0).ne[0] <= _MAX_TRIANGLE and op.source(1).ne[0] <= _MAX_TRIANGLE


def _contiguous(op: Op) -> bool:
    return op.source(0).is_contiguous()


# supported whatever their operands are
ALWAYS = frozenset(
    [
        "CONV_2D",
        "CONV_2D_DW",
        "CONV_TRANSPOSE_2D",
        "CONCAT",
        "DUP",
        "ARGMAX",
        "NONE",
        "RESHAPE",
        "VIEW",
        "PERMUTE",
        "TRANSPOSE",
        "ADD",
        "ADD1",
        "ADD_ID",
        "SUB",
        "COUNT_EQUAL",
        "MUL",
        "DIV",
        "REPEAT",
        "SQR",
        "SQRT",
        "SIN",
        "COS",
        "CLAMP",
        "LOG",
        "NORM",
        "L2_NORM",
        "GROUP_NORM",
        "RMS_NORM",
        "SCALE",
        "CONT",
        "DIAG_MASK_INF",
        "SOFT_MAX",
        "ROPE",
        "ROPE_BACK",
        "IM2COL",
        "IM2COL_3D",
        "UPSCALE",
        "ARGSORT",
        "POOL_2D",
        "POOL_1D",
        "ACC",
        "LEAKY_RELU",
        "TIMESTEP_EMBEDDING",
        "RWKV_WKV6",
        "RWKV_WKV7",
        "GATED_LINEAR_ATTN",
        "GATED_DELTA_NET",
        "FILL",
        "CUMSUM",
        "DIAG",
    ]
)

# an operation without a rule is not supported
_RULES: dict[str, Callable[[Op], bool]] = {
    **dict.fromkeys(ALWAYS, lambda _op: True),
    "UNARY": lambda op: op.param(0) < len(UNARY_NAMES),
    "GLU": lambda op: op.source(0).is_contiguous(1),
    **dict.fromkeys(("MUL_MAT", "MUL_MAT_ID"), _multiply),
    "GET_ROWS": lambda op: op.source(0).type in _ROW_TYPES or op.source(0).type == I32,
    "SET_ROWS": _set_rows,
    "CPY": _copy,
    **dict.fromkeys(
        ("CONV_TRANSPOSE_1D", "SET", "SSM_CONV", "DSV4_HC_PRE", "DSV4_HC_COMB", "DSV4_HC_POST"), _all_f32
    ),
    "LIGHTNING_INDEXER": _lightning_indexer,
    **dict.fromkeys(("SUM", "SUM_ROWS", "MEAN"), _contiguous),
    "TRI": lambda op: op.type == F32 and _contiguous(op),
    "TOP_K": lambda op: op.type == I32 and op.source(0).type == F32 and _contiguous(op),
    "PAD": lambda op: op.param(8) == 0,
    "PAD_REFLECT_1D": lambda op: _all_f32(op) and _contiguous(op),
    **dict.fromkeys(("ROLL", "ARANGE"), lambda op: op.type == F32),
    "SSM_SCAN": _ssm_scan,
    "SOLVE_TRI": _solve_tri,
    "FLASH_ATTN_EXT": _flash_attention,
}
