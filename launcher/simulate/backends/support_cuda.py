"""What the CUDA backend (and HIP, the same source) can run, and what its tensors take.

Sources, at llama.cpp 0c1e570: ggml_backend_cuda_device_supports_op and
ggml_backend_cuda_buffer_type_get_alloc_size in ggml/src/ggml-cuda/ggml-cuda.cu, flash attention in fattn.cu,
the indexer in lightning-indexer.cu.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.gguf.ggml import BLOCKS
from launcher.gguf.ggml import GgmlType as T
from launcher.machine.machine import Backend
from launcher.plan.memory.kernels import CUDA_GROUPED_HEADS, CUDA_SQUARE_HEADS, NO_KERNEL, NOT_WEIGHTS
from launcher.simulate.abi.ops import BF16, F16, F32, FLOATS, I32, I64, UNARY_NAMES, Op, Tensor

# types MUL_MAT and MUL_MAT_ID take as weights
MATRIX_TYPES = frozenset(BLOCKS) - NO_KERNEL[Backend.CUDA] - NOT_WEIGHTS
ROW_PADDING = 512  # MATRIX_ROW_PADDING (ggml/src/ggml-cuda/common.cuh)

_ROW_TYPES = MATRIX_TYPES - {T.MXFP4, T.NVFP4, T.Q8_K, T.IQ4_NL} | {I32}
_SUPER_BLOCK = 256  # QK_K
_CACHE_TYPES = frozenset(T[name] for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"])
_KV_TYPES = frozenset(T[name] for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
_PREC_F32 = 10  # GGML_PREC_F32 (ggml/include/ggml.h)
_KQ_STRIDE = 256  # FATTN_KQ_STRIDE (ggml/src/ggml-cuda/fattn-common.cuh)


def supports(op: Op) -> bool:
    """Return True if a CUDA device can run the operation, wherever its sources are."""
    rule = _RULES.get(op.name)
    return rule is not None and rule(op)


def alloc_bytes(op: Op) -> int:
    """Return the bytes of a tensor, with the padding of quantised rows and scratch memory."""
    n_bytes = op.n_bytes
    if op.name == "FLASH_ATTN_EXT":
        # f16 copies of a K and V of other types (ggml_cuda_flash_attn_ext_get_alloc_size); the vector kernel
        # needs none, but only runs for one or two tokens, whose copies never exceed those of a larger batch
        k, v = op.source(1), op.source(2)
        if k.type != F16:
            n_bytes = _pad(n_bytes, 128) + 2 * k.n_elements
        if v.type != F16 and not (op.v_is_k_view and k.type != F16):
            n_bytes = _pad(n_bytes, 128) + 2 * v.n_elements
    if op.is_quantized and op.ne[0] % ROW_PADDING:
        block, size = BLOCKS[T(op.type)]
        n_bytes += (ROW_PADDING - op.ne[0] % ROW_PADDING) // block * size
    return n_bytes


def _pad(n: int, to: int) -> int:
    return -(-n // to) * to


def _unary(op: Op) -> bool:
    is_xielu = op.param(0) == UNARY_NAMES.index("XIELU")
    return (
        op.param(0) < len(UNARY_NAMES)
        and not (is_xielu and op.source(0).type == BF16)
        and op.source(0).is_contiguous()
    )


def _glu(op: Op) -> bool:
    is_clamped = op.param(0) in (3, 6)  # GGML_GLU_OP_SWIGLU_OAI, GGML_GLU_OP_SWIGLU_CLAMP
    return not (is_clamped and op.source(0).type == BF16) and op.source(0).is_contiguous(1)


def _multiply(op: Op) -> bool:
    a, b = op.source(0), op.source(1)
    if a.nb[0] != a.type_size or b.nb[0] != b.type_size:
        return False
    if b.type == F16 and a.type != F16:
        return False
    if op.name == "MUL_MAT_ID" and op.param(3) == _PREC_F32:
        return False
    return a.type in MATRIX_TYPES


def _get_rows(op: Op) -> bool:
    rows = op.source(0)
    if rows.type in (T.IQ4_NL, T.MXFP4):
        return rows.ne[0] % _SUPER_BLOCK == 0
    return rows.type in _ROW_TYPES


def _set_rows(op: Op) -> bool:
    source = op.source(0).type
    fits = (source == F32 and (op.type in FLOATS or op.type in _CACHE_TYPES)) or (source == op.type == F16)
    return fits and op.source(1).type in (I32, I64)


def _copy(op: Op) -> bool:
    a, b = op.source(0), op.source(1)
    if a.type in FLOATS and b.type in FLOATS:
        return True
    if a.type == F32 and (b.type in _CACHE_TYPES or b.type == I32):
        return True
    if b.type == F32 and (a.type in _CACHE_TYPES - {T.IQ4_NL} or a.type == I32):
        return True
    if a.type == b.type == I32:
        return True
    return a.type == b.type and a.is_contiguous() and b.is_contiguous()


def _concat(op: Op) -> bool:
    a, b = op.source(0), op.source(1)
    if a.type != b.type or a.type != op.type:
        return False
    if not a.is_quantized:
        return a.block_size == 1 and a.type_size in (1, 2, 4, 8)
    upto = 4 if op.param(0) == 3 else 3  # op_params[0] is the dimension
    whole = a.is_contiguous(0, upto) and b.is_contiguous(0, upto)
    return whole and a.ne[0] % a.block_size == 0 and b.ne[0] % b.block_size == 0


def _elementwise(op: Op) -> bool:
    a, b = op.source(0).type, op.source(1).type
    if BF16 in (a, b, op.type):
        return a == op.type == BF16 and b in (BF16, F32)
    return a in (F32, F16) and b in (F32, F16) and op.type in (F32, F16)


def _ssm_scan(op: Op) -> bool:
    state = op.source(0)
    if op.source(3).ne[0] == 1:  # Mamba-2
        return state.ne[0] in (96, 128, 256) and state.ne[1] % 16 == 0
    return (
        op.param(0) <= 1
        and state.ne[0] == 16
        and state.ne[1] == 1
        and state.ne[2] % 128 == 0
        and op.source(4).ne[1] == 1
    )


def _flash_attention(op: Op) -> bool:
    """Return True if there is a kernel for these heads and types (ggml_cuda_get_best_fattn_kernel)."""
    q, k, v, mask = op.source(0), op.source(1), op.source(2), op.src[3]
    if k.type not in _KV_TYPES or v.type not in _KV_TYPES or (mask is not None and mask.ne[2] != 1):
        return False
    if k.ne[0] in CUDA_SQUARE_HEADS:
        return v.ne[0] == k.ne[0]
    heads = CUDA_GROUPED_HEADS.get(k.ne[0])
    if heads is None:
        return False
    ratio = q.ne[2] // k.ne[2]
    aligned = all(
        tensor is None or tensor.is_quantized or all(stride % 16 == 0 for stride in tensor.nb[1:])
        for tensor in (q, k, v, mask)
    )
    # op_params[1] is max_bias (ALiBi)
    grouped = ratio >= 2 and mask is not None and op.param_float(1) == 0.0 and k.ne[1] % _KQ_STRIDE == 0
    return v.ne[0] == heads[0] and aligned and grouped and ratio % heads[1] == 0


def _lightning_indexer(op: Op) -> bool:
    q, k = op.source(0), op.source(1)
    aligned = all(t.is_quantized or all(stride % 16 == 0 for stride in t.nb[1:]) for t in (q, k))
    return q.ne[0] == 128 and q.ne[1] in (32, 64) and aligned and k.type in _KV_TYPES


def _all_f32(op: Op) -> bool:
    return op.type == F32 and all(tensor.type == F32 for tensor in op.sources)


def _rows(op: Op) -> bool:
    return op.source(0).has_contiguous_rows


def _f32_rows(op: Op) -> bool:
    return op.source(0).type == F32 and op.type == F32 and op.source(0).has_contiguous_rows


def _contiguous(op: Op) -> bool:
    return op.source(0).is_contiguous()


def _both_contiguous(op: Op) -> bool:
    return op.source(0).is_contiguous() and op.source(1).is_contiguous()


def _rope(op: Op) -> bool:
    x: Tensor = op.source(0)
    return x.nb[0] == x.type_size and x.is_contiguous(2)


def _set(op: Op) -> bool:
    return op.type in (F32, I32) and op.type == op.source(0).type == op.source(1).type


# supported whatever their operands are; ARGSORT and TOP_K with CUB, which CUDA builds have by default
ALWAYS = frozenset(
    [
        "NONE",
        "RESHAPE",
        "VIEW",
        "PERMUTE",
        "TRANSPOSE",
        "ADD_ID",
        "ADD1",
        "SQR",
        "SQRT",
        "SIN",
        "COS",
        "CLAMP",
        "LOG",
        "DUP",
        "ARGMAX",
        "COUNT_EQUAL",
        "CONT",
        "DIAG_MASK_INF",
        "SOFT_MAX",
        "ARGSORT",
        "TOP_K",
        "PAD",
        "UPSCALE",
        "PAD_REFLECT_1D",
        "ARANGE",
        "TIMESTEP_EMBEDDING",
        "LEAKY_RELU",
        "RWKV_WKV6",
        "RWKV_WKV7",
        "GATED_LINEAR_ATTN",
        "GATED_DELTA_NET",
        "FILL",
        "CUMSUM",
        "TRI",
        "DIAG",
        "SOLVE_TRI",
        "CONV_TRANSPOSE_2D",
        "POOL_1D",
        "POOL_2D",
    ]
)

# an operation without a rule is not supported
_RULES: dict[str, Callable[[Op], bool]] = {
    **dict.fromkeys(ALWAYS, lambda _op: True),
    "UNARY": _unary,
    "GLU": _glu,
    "MUL_MAT": _multiply,
    "MUL_MAT_ID": _multiply,
    "OUT_PROD": _all_f32,
    "GET_ROWS": _get_rows,
    "SET_ROWS": _set_rows,
    "SET": _set,
    "CPY": _copy,
    "REPEAT": lambda op: op.source(0).type in (F32, F16),
    "CONCAT": _concat,
    "CONV_TRANSPOSE_1D": lambda op: op.source(0).type == op.source(1).type == F32,
    **dict.fromkeys(("NORM", "RMS_NORM", "L2_NORM", "SUM"), _rows),
    "SCALE": lambda op: op.source(0).type in (F32, BF16) and op.type == op.source(0).type,
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV"), _elementwise),
    "SSM_SCAN": _ssm_scan,
    "SSM_CONV": lambda op: op.source(0).ne[1] % 128 == 0,
    "ROLL": lambda op: op.source(0).type == F32 and op.source(0).is_contiguous(),
    **dict.fromkeys(("ROPE", "ROPE_BACK"), _rope),
    **dict.fromkeys(("IM2COL", "IM2COL_3D", "CONV_2D", "ACC"), _both_contiguous),
    "CONV_2D_DW": lambda op: op.source(0).type in (F16, F32) and op.source(1).type == F32 and op.type == F32,
    **dict.fromkeys(("SUM_ROWS", "MEAN"), _f32_rows),
    "GROUP_NORM": _contiguous,
    **dict.fromkeys(("DSV4_HC_COMB", "DSV4_HC_PRE", "DSV4_HC_POST"), _all_f32),
    "FLASH_ATTN_EXT": _flash_attention,
    "LIGHTNING_INDEXER": _lightning_indexer,
}
