"""What backends have no kernel for, where it decides who holds a tensor: read by the formulas here and by `simulate`.

llama.cpp 0c1e570: supports_op in ggml-cuda.cu, ggml-metal-device.m, ggml-sycl.cpp and ggml-vulkan.cpp.
"""

from __future__ import annotations

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend

NOT_WEIGHTS = frozenset(GgmlType[name] for name in ("F64", "I8", "I16", "I32", "I64", "Q8_1"))
"""Types of tables and of intermediate results: CUDA and Vulkan list what they multiply with, and not these."""

_NO_TERNARY = frozenset({GgmlType.TQ1_0, GgmlType.TQ2_0})

NO_KERNEL: dict[Backend, frozenset[GgmlType]] = {
    Backend.CUDA: _NO_TERNARY,
    Backend.HIP: _NO_TERNARY,
    Backend.METAL: frozenset({GgmlType.NVFP4, GgmlType.TQ1_0}),
    Backend.SYCL: _NO_TERNARY,
    Backend.VULKAN: frozenset({GgmlType.Q8_K}),
}
"""Types that MUL_MAT and MUL_MAT_ID do not take as weights: llama.cpp leaves such tensors on the host without a word."""

CUDA_SQUARE_HEADS = (40, 64, 72, 80, 96, 112, 128, 256)
CUDA_GROUPED_HEADS = {192: (128, 8), 320: (256, 32), 512: (512, 1), 576: (512, 1)}
"""Head sizes of CUDA's flash attention (fattn.cu, ggml_cuda_get_best_fattn_kernel): K and V alike; or of K: that of V,
and what the group of queries must be a multiple of."""
