"""What the Vulkan backend can run: ggml_backend_vk_device_supports_op, ggml/src/ggml-vulkan/ggml-vulkan.cpp.

As of llama.cpp 0c1e570, for a device with fp16, subgroup shuffle and arithmetic and the Vulkan memory model
(every desktop GPU since 2016, and lavapipe).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from launcher.gguf.ggml import BLOCKS
from launcher.gguf.ggml import GgmlType as T
from launcher.machine.machine import Backend
from launcher.plan.memory.kernels import NO_KERNEL, NOT_WEIGHTS
from launcher.simulate.abi.ops import BF16, F16, F32, I32, I64, UNARY_NAMES, Op, Tensor

# types MUL_MAT and MUL_MAT_ID take as weights
MATRIX_TYPES = frozenset(BLOCKS) - NO_KERNEL[Backend.VULKAN] - NOT_WEIGHTS

_COPY_TYPES = frozenset(
    T[name] for name in ["BF16", "Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"]
) | {
    F16,
    F32,
}
_KV_TYPES = frozenset(
    T[name] for name in ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL"]
)
_INDEXER_K_TYPES = _KV_TYPES
_GATED_HEADS = (16, 32, 64, 128)
_PREC_F32 = 10  # GGML_PREC_F32 (ggml/include/ggml.h)
_HALVES = (F32, F16)


@dataclass(frozen=True, slots=True, kw_only=True)
class VulkanLimits:
    """Limits of a Vulkan device that decide what it can run (VkPhysicalDeviceLimits)."""

    max_tensor_bytes: int  # maxStorageBufferRange
    offset_alignment: int  # minStorageBufferOffsetAlignment
    shared_memory_bytes: int
    max_workgroup: int
    subgroup_size: int


def supports(op: Op, limits: VulkanLimits) -> bool:
    """Return True if a Vulkan device with these limits can run the operation."""
    if any(tensor.n_bytes > limits.max_tensor_bytes for tensor in (*op.sources, op)):
        return False
    rule = _RULES.get(op.name)
    if rule is not None:
        return rule(op)
    limited = _LIMITED_RULES.get(op.name)
    return limited is not None and limited(op, limits)


def _unary(op: Op) -> bool:
    return op.param(0) < len(UNARY_NAMES) and _same_half(op)


def _same_half(op: Op) -> bool:
    return op.source(0).type in _HALVES and op.type == op.source(0).type


def _glu(op: Op) -> bool:
    second = op.src[1]
    return _same_half(op) and (second is None or second.type == op.source(0).type)


def _multiply(op: Op) -> bool:
    weights, x = op.source(0), op.source(1)
    if op.name == "MUL_MAT_ID" and op.param(3) == _PREC_F32:
        return False
    if weights.type not in MATRIX_TYPES:
        return False
    batch = weights if op.name == "MUL_MAT" else op.source(2)
    if batch.ne[3] != x.ne[3]:
        return False
    if not (_dim01_contiguous(weights) or weights.type in (F32, F16, BF16)):
        return False
    if not (_dim01_contiguous(x) or x.type in _HALVES):
        return False
    return not ((weights.type == BF16 and x.type == F16) or (x.type == BF16 and weights.type != BF16))


def _dim01_contiguous(t: Tensor) -> bool:
    return (
        t.nb[0] == t.type_size
        and t.nb[1] == t.nb[0] * t.ne[0] // t.block_size
        and (t.ne[3] == 1 or t.nb[3] == t.nb[2] * t.ne[2])
    )


def _flash_attention(op: Op) -> bool:
    q, k, v, mask, sinks = op.source(0), op.source(1), op.source(2), op.src[3], op.src[4]
    return (
        k.ne[0] % 8 == 0
        and v.ne[0] % 8 == 0
        and (sinks is None or sinks.type == F32)
        and q.type == F32
        and op.type == F32
        and (mask is None or mask.type == F16)
        and k.type in _KV_TYPES
        and v.type in _KV_TYPES
        and (k.type == BF16) == (v.type == BF16)
    )


def _set_rows(op: Op) -> bool:
    return op.source(0).type in _HALVES and op.source(1).type in (I32, I64) and op.type in _COPY_TYPES


def _copy(op: Op) -> bool:
    source = op.source(0)
    target = op.src[1].type if op.src[1] is not None else source.type
    if (source.type == F32 and target in _COPY_TYPES) or (target == F32 and source.type in _COPY_TYPES):
        return True
    if {source.type, target} == {F32, I32} or (source.type == target == F16):
        return True
    return (
        source.type == target
        and (not source.is_quantized or (source.is_contiguous() and op.is_contiguous()))
        and source.type_size % 2 == 0
    )


def _elementwise(op: Op) -> bool:
    return op.source(0).type in _HALVES and op.source(1).type in _HALVES and op.type in _HALVES


def _concat(op: Op) -> bool:
    a, b = op.source(0), op.source(1)
    if a.type != b.type or a.type != op.type:
        return False
    if not a.is_quantized:
        return a.type_size in (1, 2, 4, 8)
    return a.has_contiguous_rows and b.has_contiguous_rows and op.has_contiguous_rows


def _hyper_connection(op: Op) -> bool:
    if op.type != F32 or any(tensor.type != F32 for tensor in op.sources):
        return False
    if op.name == "DSV4_HC_PRE":
        return op.source(0).ne[1] == 4
    return op.name != "DSV4_HC_POST" or op.source(1).ne[1] == 4


def _hyper_connection_mix(op: Op, limits: VulkanLimits) -> bool:
    # a token's 4x4 matrix lies in 16 lanes (ggml_vk_load_shaders: pipeline_dsv4_hc_comb_f32)
    return limits.subgroup_size >= 16 and _all_f32(op)


def _lightning_indexer(op: Op, limits: VulkanLimits) -> bool:
    q, k = op.source(0), op.source(1)
    if k.type not in _INDEXER_K_TYPES or q.ne[0] != 128:
        return False
    tensors = (*op.sources[:4], op)
    return all(
        t.nb[0] == t.type_size and all(stride % t.type_size == 0 for stride in t.nb[1:]) for t in tensors
    ) and all(offset % limits.offset_alignment == 0 for offset in (*op.offsets[:4], op.offsets[-1]))


def _gated_delta_net(op: Op) -> bool:
    return (
        op.source(2).ne[0] in _GATED_HEADS
        and all(tensor is not None and tensor.type == F32 for tensor in op.src[:6])
        and op.type == F32
    )


def _ssm_scan(op: Op, limits: VulkanLimits) -> bool:
    state, a = op.source(0), op.source(3)
    if any(tensor is not None and tensor.is_quantized for tensor in op.src[:6]):
        return False
    is_mamba2 = a.nb[1] == 4
    return (
        state.type == F32
        and op.type == F32
        and is_mamba2
        and state.ne[0] in (128, 256)
        and state.ne[1] % 16 == 0
        and state.ne[0] * 4 <= limits.shared_memory_bytes
    )


def _solve_tri(op: Op, limits: VulkanLimits) -> bool:
    n, k = op.source(0).ne[0], op.source(1).ne[0]
    return (
        op.type == F32
        and op.source(0).type == F32
        and k <= limits.max_workgroup
        and limits.shared_memory_bytes // ((n + k) * 4) > 0
    )


def _always(_op: Op) -> bool:
    return True


def _f32_source(op: Op) -> bool:
    return op.source(0).type == F32


def _f32_contiguous(op: Op) -> bool:
    return op.source(0).type == F32 and op.source(0).is_contiguous()


def _f32_rows(op: Op) -> bool:
    return op.source(0).type == F32 and op.source(0).has_contiguous_rows


def _repeat(op: Op) -> bool:
    return op.type_size == op.source(0).type_size and op.type_size in (2, 4)


def _soft_max(op: Op) -> bool:
    return _f32_contiguous(op) and (op.src[1] is None or op.src[1].type in _HALVES)


def _all_f32(op: Op) -> bool:
    return op.type == F32 and all(tensor.type == F32 for tensor in op.sources)


def _set(op: Op) -> bool:
    return op.source(0).type == op.source(1).type == op.type and op.type in (F32, I32)


def _sorted(op: Op) -> bool:
    return op.is_contiguous() and op.source(0).is_contiguous()


def _im2col(op: Op) -> bool:
    x = op.source(1)
    return (op.name == "IM2COL_3D" or x.is_contiguous()) and x.type == F32 and op.type in _HALVES


def _convolution(op: Op) -> bool:
    kernel, x = op.source(0), op.source(1)
    return (
        kernel.type in _HALVES
        and x.type == F32
        and op.type == F32
        and kernel.is_contiguous()
        and x.is_contiguous()
    )


# an operation without a rule is not supported
_RULES: dict[str, Callable[[Op], bool]] = {
    "UNARY": _unary,
    "GLU": _glu,
    "MUL_MAT": _multiply,
    "MUL_MAT_ID": _multiply,
    "FLASH_ATTN_EXT": _flash_attention,
    "GET_ROWS": lambda op: op.source(0).type in MATRIX_TYPES or op.source(0).type == I32,
    "SET_ROWS": _set_rows,
    **dict.fromkeys(("CONT", "CPY", "DUP"), _copy),
    "REPEAT": _repeat,
    "ROPE": lambda op: op.has_contiguous_rows and op.source(0).has_contiguous_rows,
    **dict.fromkeys(("NONE", "RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE", "RMS_NORM", "ROPE_BACK"), _always),
    **dict.fromkeys(("RWKV_WKV6", "RWKV_WKV7"), _always),
    "GROUP_NORM": lambda op: op.source(0).is_contiguous(),
    **dict.fromkeys(("NORM", "L2_NORM"), lambda op: op.source(0).type == F32 and op.type == F32),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV"), _elementwise),
    "ADD_ID": lambda op: (
        op.source(0).type == op.source(1).type == op.type == F32 and op.source(2).type == I32
    ),
    **dict.fromkeys(("SQR", "SQRT", "SIN", "COS", "CLAMP", "LEAKY_RELU", "LOG", "TRI", "DIAG"), _same_half),
    **dict.fromkeys(("ARGSORT", "TOP_K"), _sorted),
    **dict.fromkeys(
        ("UPSCALE", "PAD", "PAD_REFLECT_1D", "ROLL", "TIMESTEP_EMBEDDING", "SSM_CONV"), _f32_source
    ),
    **dict.fromkeys(("ACC", "CONV_TRANSPOSE_1D"), _all_f32),
    "OUT_PROD": lambda op: _all_f32(op) and op.source(0).is_contiguous() and op.source(1).is_contiguous(),
    "SET": _set,
    "CONCAT": _concat,
    "ADD1": lambda op: op.source(0).type in _HALVES and op.source(1).type in (F32, op.source(0).type),
    "ARANGE": lambda op: op.type == F32,
    "FILL": lambda op: op.type in _HALVES,
    **dict.fromkeys(("SCALE", "DIAG_MASK_INF", "ARGMAX", "POOL_1D", "POOL_2D"), _f32_contiguous),
    "SOFT_MAX": _soft_max,
    **dict.fromkeys(("SUM", "SUM_ROWS", "MEAN", "CUMSUM"), _f32_rows),
    **dict.fromkeys(("DSV4_HC_PRE", "DSV4_HC_POST"), _hyper_connection),
    "COUNT_EQUAL": lambda op: op.source(0).type == op.source(1).type == I32,
    **dict.fromkeys(("IM2COL", "IM2COL_3D"), _im2col),
    **dict.fromkeys(("CONV_2D", "CONV_3D", "CONV_TRANSPOSE_2D"), _convolution),
    "CONV_2D_DW": lambda op: op.source(0).type in _HALVES and op.source(1).type == F32,
    "GATED_LINEAR_ATTN": lambda op: op.source(0).type == op.type == F32 and op.source(0).ne[0] == 64,
    "GATED_DELTA_NET": _gated_delta_net,
}

_LIMITED_RULES: dict[str, Callable[[Op, VulkanLimits], bool]] = {
    "DSV4_HC_COMB": _hyper_connection_mix,
    "LIGHTNING_INDEXER": _lightning_indexer,
    "SSM_SCAN": _ssm_scan,
    "SOLVE_TRI": _solve_tri,
}
