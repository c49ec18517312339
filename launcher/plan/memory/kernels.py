"""Tensor types and head sizes that backends lack kernels for; `simulate` reads them, too. Pure.

llama.cpp 0c1e570: supports_op in ggml-cuda.cu, ggml-metal-device.m, ggml-sycl.cpp and ggml-vulkan.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable

from launcher.errors import BadGguf
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device

# Types of tables and of intermediate results. CUDA and Vulkan list the types they multiply with, and not
# these.
NOT_WEIGHTS = frozenset(GgmlType[name] for name in ("F64", "I8", "I16", "I32", "I64", "Q8_1"))

_NO_TERNARY = frozenset({GgmlType.TQ1_0, GgmlType.TQ2_0})

# Types that MUL_MAT and MUL_MAT_ID do not take as weights. llama.cpp leaves such tensors on the host and
# does not say so.
NO_KERNEL: dict[Backend, frozenset[GgmlType]] = {
    Backend.CUDA: _NO_TERNARY,
    Backend.HIP: _NO_TERNARY,
    Backend.METAL: frozenset({GgmlType.NVFP4, GgmlType.TQ1_0}),
    Backend.SYCL: _NO_TERNARY,
    Backend.VULKAN: frozenset({GgmlType.Q8_K}),
}

# Head sizes of CUDA's flash attention (fattn.cu, ggml_cuda_get_best_fattn_kernel). Square: K and V alike.
# Grouped, by the size of K: the size of V, and the number that the group of queries must be a multiple of.
CUDA_SQUARE_HEADS = (40, 64, 72, 80, 96, 112, 128, 256)
CUDA_GROUPED_HEADS = {192: (128, 8), 320: (256, 32), 512: (512, 1), 576: (512, 1)}


def check_peers(model_id: str, types: Iterable[GgmlType], devices: Iterable[Device]) -> None:
    """Raise BadGguf for a type that a peer has no kernel for: its head sends it all the same."""
    types = frozenset(types)
    for device in devices:
        lacking = types & NO_KERNEL.get(device.backend, frozenset())
        if device.peer is not None and lacking:
            names = ", ".join(sorted(kind.name for kind in lacking))
            raise BadGguf(
                f"{model_id} has {names} tensors, and {device.name}, on a peer, has no kernel for them",
                hint="choose another quant",
            )
