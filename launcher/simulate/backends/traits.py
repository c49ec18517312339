"""What decides where memory goes, for each backend family, as data. Sources: llama.cpp 0c1e570, the buffer
type, device properties and offload functions of each backend, cited at each entry.

`supports` answers ggml_backend_device_i.supports_op; `always` names operations it need not be asked about;
`alloc_bytes` is ggml_backend_buffer_type_i.get_alloc_size where it is more than ggml_nbytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from launcher.machine.machine import Backend, Device
from launcher.simulate.abi.ops import Op
from launcher.simulate.backends import support_cuda, support_metal, support_sycl, support_vulkan
from launcher.units import GIB, MIB

OFFLOAD_MIN_BATCH = 32
"""Tokens from which an operation whose weights are in host memory is worth copying them to the device: the
default of GGML_OP_OFFLOAD_MIN_BATCH in every backend."""


class Optimizer(StrEnum):
    """What a backend's graph_optimize does: nothing that moves memory, keep the inputs of fused operations
    alive (ggml_backend_cuda_graph_optimize), or reorder nodes (ggml_vk_graph_optimize)."""

    NONE = "none"
    CUDA = "cuda"
    VULKAN = "vulkan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Bytes on each device, and on the host for all of them."""

    device_bytes: int = 0
    host_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """`host_buffer` is the name of the pinned host buffer type, None where the backend has none; its buffers
    take `host_extra_bytes` more than asked. `max_buffer_bytes` splits larger allocations, None is unlimited.
    `checks_sources`: refuses an operation with a source on a sibling device. `matrix_types` are the weights it
    can multiply by. `alloc_bytes` is asked for the results of `scratch_ops` and for quantised rows that are not
    whole multiples of `row_padding` elements; everything else takes ggml_nbytes. Support for `offset_ops`
    depends on the offsets of views. `staging` is what it takes to add up partial sums of so many bytes on so many devices
    by itself (ggml_backend_comm_allreduce_tensor). `optimizer` is what the backend does to a graph before memory is
    given out."""

    registry: str
    host_buffer: str | None
    alignment: int
    host_alignment: int
    max_buffer_bytes: int | None
    host_extra_bytes: int
    async_compute: bool
    events: bool
    checks_sources: bool
    matrix_types: frozenset[int]
    always: frozenset[str]
    supports: Callable[[Op], bool]
    alloc_bytes: Callable[[Op], int]
    scratch_ops: frozenset[str]
    row_padding: int
    offload_ops: frozenset[str] | None = None
    offset_ops: frozenset[str] = frozenset()
    staging: Callable[[int, int], Staging] = lambda _n_devices, _largest: Staging()
    optimizer: Optimizer = Optimizer.NONE


def _cuda_staging(n_devices: int, largest: int) -> Staging:
    """Two devices without NCCL: ggml_cuda_ar_pipeline_init (ggml-cuda/allreduce.cu), on each 32 MiB and as much again
    pinned, with two slots of 1 MiB. With NCCL: a copy in half precision (ggml_backend_cuda_comm_allreduce_nccl), and
    what its communicators take, which nobody here has measured. Which it is, the engine's build decides: the larger."""
    half = largest // 2
    if n_devices != 2:
        return Staging(device_bytes=half)
    return Staging(device_bytes=max(half, 32 * MIB), host_bytes=2 * (32 + 2) * MIB)


def _sycl_staging(n_devices: int, largest: int) -> Staging:
    """ggml_backend_sycl_comm_allreduce_tensor: two devices, a buffer of the sum's size on each; in and out of both pinned."""
    if n_devices != 2:
        return Staging()
    return Staging(device_bytes=largest, host_bytes=4 * largest)


_CUDA = Traits(
    # ggml_backend_cuda_buffer_type_*, ggml_backend_cuda_host_buffer_type, ggml_backend_cuda_device_get_props
    registry="CUDA",
    host_buffer="CUDA_Host",
    alignment=128,
    host_alignment=64,
    max_buffer_bytes=None,
    host_extra_bytes=0,
    async_compute=True,
    events=True,
    checks_sources=True,
    matrix_types=support_cuda.MATRIX_TYPES,
    always=support_cuda.ALWAYS,
    supports=support_cuda.supports,
    alloc_bytes=support_cuda.alloc_bytes,
    scratch_ops=frozenset({"FLASH_ATTN_EXT"}),
    row_padding=support_cuda.ROW_PADDING,
    staging=_cuda_staging,
    optimizer=Optimizer.CUDA,
)

_HIP = replace(_CUDA, registry="ROCm", host_buffer="ROCm_Host")
"""The CUDA source under another name: GGML_CUDA_NAME is "ROCm" (ggml/include/ggml-cuda.h)."""


def _vulkan(limits: support_vulkan.VulkanLimits) -> Traits:
    # ggml_backend_vk_buffer_type_*, ggml_backend_vk_host_buffer_type, ggml_backend_vk_device_get_props;
    # 1 GiB is device->suballocation_block_size
    return Traits(
        registry="Vulkan",
        host_buffer="Vulkan_Host",
        alignment=limits.offset_alignment,
        host_alignment=64,
        max_buffer_bytes=GIB,
        host_extra_bytes=32,
        async_compute=True,
        events=True,
        checks_sources=False,
        matrix_types=support_vulkan.MATRIX_TYPES,
        always=frozenset(),
        supports=partial(support_vulkan.supports, limits=limits),
        alloc_bytes=lambda op: op.n_bytes,
        scratch_ops=frozenset(),
        row_padding=0,
        offset_ops=frozenset({"LIGHTNING_INDEXER"}),
        optimizer=Optimizer.VULKAN,
    )


_DESKTOP = support_vulkan.VulkanLimits(
    max_tensor_bytes=4 * GIB - 1,
    offset_alignment=64,
    shared_memory_bytes=32 << 10,
    max_workgroup=1024,
    subgroup_size=32,
)
"""VulkanLimits that the desktop drivers report (vulkan.gpuinfo.org): maxStorageBufferRange 2^32 - 1, and 64 as the
largest minStorageBufferOffsetAlignment among NVIDIA (16), AMD (4) and Intel (64)."""

_LAVAPIPE = support_vulkan.VulkanLimits(
    max_tensor_bytes=128 * MIB,
    offset_alignment=16,
    shared_memory_bytes=32 << 10,
    max_workgroup=1024,
    subgroup_size=8,
)
"""Mesa's software driver (lp_device.c of Mesa 22.3, lvp_get_properties)."""

_METAL = Traits(
    # ggml_backend_metal_buffer_type_shared_*, ggml_backend_metal_device_get_props, ggml_backend_metal_device_offload_op
    registry="MTL",
    host_buffer=None,
    alignment=32,
    host_alignment=64,
    max_buffer_bytes=None,
    host_extra_bytes=0,
    async_compute=True,
    events=True,
    checks_sources=False,
    matrix_types=support_metal.MATRIX_TYPES,
    always=support_metal.ALWAYS,
    supports=support_metal.supports,
    alloc_bytes=support_metal.alloc_bytes,
    scratch_ops=frozenset({"MUL_MAT_ID", "FLASH_ATTN_EXT", "CUMSUM", "ARGSORT", "TOP_K"}),
    row_padding=0,
    offload_ops=frozenset({"MUL_MAT", "MUL_MAT_ID"}),
)

_SYCL = Traits(
    # ggml_backend_sycl_buffer_type_*, ggml_backend_sycl_device_get_props
    registry="SYCL",
    host_buffer="SYCL_Host",
    alignment=128,
    host_alignment=64,
    max_buffer_bytes=4 * GIB,
    host_extra_bytes=0,
    async_compute=True,
    events=True,
    checks_sources=False,
    matrix_types=support_sycl.MATRIX_TYPES,
    always=support_sycl.ALWAYS,
    supports=support_sycl.supports,
    alloc_bytes=support_sycl.alloc_bytes,
    scratch_ops=frozenset({"FLASH_ATTN_EXT"}),
    row_padding=support_sycl.ROW_PADDING,
    staging=_sycl_staging,
)


def traits_of(device: Device) -> Traits:
    """The traits of a device: its family's, and for Vulkan its driver's limits. Raises LookupError for CPU,
    which is no device to llama.cpp's scheduler."""
    if device.backend is Backend.VULKAN:
        return _vulkan(_LAVAPIPE if "llvmpipe" in device.name.lower() else _DESKTOP)
    if device.backend is Backend.HIP:
        return _HIP
    return {Backend.CUDA: _CUDA, Backend.METAL: _METAL, Backend.SYCL: _SYCL}[device.backend]
