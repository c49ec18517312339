"""Everything about a backend family that decides where memory goes, as data.

Sources, at llama.cpp 0c1e570: the buffer type, device properties and offload functions of each backend, named
at its entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device
from launcher.simulate.abi.ops import Op
from launcher.simulate.backends import support_cuda, support_metal, support_sycl, support_vulkan
from launcher.units import GIB, MIB

# tokens from which it is worth copying an operation's weights from host memory to the device: the default of
# GGML_OP_OFFLOAD_MIN_BATCH in every backend
OFFLOAD_MIN_BATCH = 32

_EVERY_TYPE = frozenset(int(kind) for kind in GgmlType)
# operations about whose memory an RPC peer is asked (ggml_op_alloc_size_may_expand, ggml-backend.cpp)
_MAY_EXPAND = frozenset({"FLASH_ATTN_EXT", "MUL_MAT", "MUL_MAT_ID", "CUMSUM", "ARGSORT", "TOP_K"})


class Optimizer(StrEnum):
    """What a backend's graph_optimize does."""

    NONE = "none"  # nothing that moves memory
    CUDA = "cuda"  # keep the inputs of fused operations alive (ggml_backend_cuda_graph_optimize)
    VULKAN = "vulkan"  # reorder nodes (ggml_vk_graph_optimize)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Memory in which a backend adds up partial sums."""

    device_bytes: int = 0  # on each device
    host_bytes: int = 0  # for all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What ggml learns from the devices of one backend family, and what the backend does to a graph."""

    registry: str  # the registry's name
    host_buffer: str | None  # name of the pinned host buffer type
    alignment: int
    host_alignment: int
    max_buffer_bytes: int | None  # larger allocations are split
    host_extra_bytes: int  # what a pinned buffer takes more than asked
    async_compute: bool
    events: bool
    checks_sources: bool  # refuses an operation with a source on a sibling device
    matrix_types: frozenset[int]  # weights it can multiply by
    always: frozenset[str]  # operations for which `supports` need not be asked
    supports: Callable[[Op], bool]  # ggml_backend_device_i.supports_op
    # ggml_backend_buffer_type_i.get_alloc_size, for the results of `scratch_ops` and for quantised rows that
    # are not whole multiples of `row_padding` elements; everything else takes ggml_nbytes
    alloc_bytes: Callable[[Op], int]
    scratch_ops: frozenset[str]
    row_padding: int
    offload_ops: frozenset[str] | None = None  # None: all
    offset_ops: frozenset[str] = frozenset()  # operations whose support depends on the offsets of views
    # the first answer for a result counts for every other of its shape, whatever the sources
    forgets_sources: bool = False
    # to add up partial sums of so many bytes on so many devices (ggml_backend_comm_allreduce_tensor)
    staging: Callable[[int, int], Staging] = lambda _n_devices, _largest: Staging()
    optimizer: Optimizer = Optimizer.NONE


def _cuda_staging(n_devices: int, largest: int) -> Staging:
    # The engine's build decides on NCCL, so the larger counts. With it: a copy in half precision
    # (ggml_backend_cuda_comm_allreduce_nccl); what its communicators take was not measured.
    half = largest // 2
    if n_devices != 2:
        return Staging(device_bytes=half)
    # Without it, for two devices: on each 32 MiB, and as much again pinned, with two slots of 1 MiB
    # (ggml_cuda_ar_pipeline_init, ggml-cuda/allreduce.cu).
    return Staging(device_bytes=max(half, 32 * MIB), host_bytes=2 * (32 + 2) * MIB)


def _sycl_staging(n_devices: int, largest: int) -> Staging:
    # ggml_backend_sycl_comm_allreduce_tensor: for two devices, a buffer of the sum's size on each, and pinned
    # ones for the input and output of both
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

# the CUDA source under another name: GGML_CUDA_NAME is "ROCm" (ggml/include/ggml-cuda.h)
_HIP = replace(_CUDA, registry="ROCm", host_buffer="ROCm_Host")


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


# what desktop drivers report (vulkan.gpuinfo.org): maxStorageBufferRange 2^32 - 1, and 64 as the largest
# minStorageBufferOffsetAlignment among NVIDIA (16), AMD (4) and Intel (64)
_DESKTOP = support_vulkan.VulkanLimits(
    max_tensor_bytes=4 * GIB - 1,
    offset_alignment=64,
    shared_memory_bytes=32 << 10,
    max_workgroup=1024,
    subgroup_size=32,
)

# Mesa's software driver (lp_device.c of Mesa 22.3, lvp_get_properties)
_LAVAPIPE = support_vulkan.VulkanLimits(
    max_tensor_bytes=128 * MIB,
    offset_alignment=16,
    shared_memory_bytes=32 << 10,
    max_workgroup=1024,
    subgroup_size=8,
)

_METAL = Traits(
    # ggml_backend_metal_buffer_type_shared_*, ggml_backend_metal_device_get_props,
    # ggml_backend_metal_device_offload_op
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


# seen by a head only: to the scheduler of its own machine the processor is no device
_CPU = Traits(
    # ggml_backend_cpu_buffer_type; 32 is TENSOR_ALIGNMENT (ggml-backend.cpp)
    registry="CPU",
    host_buffer=None,
    alignment=32,
    host_alignment=32,
    max_buffer_bytes=None,
    host_extra_bytes=0,
    async_compute=False,
    events=False,
    checks_sources=False,
    matrix_types=_EVERY_TYPE,
    always=frozenset(),
    supports=lambda _op: True,
    alloc_bytes=lambda op: op.n_bytes,
    scratch_ops=frozenset(),
    row_padding=0,
)


def traits_of(device: Device) -> Traits:
    """Return the traits of a device. Raises LookupError for the CPU, which is none to the scheduler."""
    if device.peer is None:
        return _local_traits(device)
    return over_rpc(_CPU if device.backend is Backend.CPU else _local_traits(device))


def over_rpc(peer: Traits) -> Traits:
    """Return a peer's traits as its head sees them (ggml-rpc.cpp, `ggml_backend_rpc_device_i` and on)."""
    return replace(
        peer,
        registry="RPC",
        host_buffer=None,  # get_host_buffer_type is NULL
        host_extra_bytes=0,
        async_compute=True,
        events=True,
        checks_sources=False,
        # supports_op is always true: what the peer cannot run ends the peer
        matrix_types=_EVERY_TYPE,
        always=frozenset(),
        offset_ops=frozenset(),
        supports=lambda _op: True,
        # of other operations the peer is not asked (ggml_backend_rpc_buffer_type_get_alloc_size)
        alloc_bytes=lambda op: max(peer.alloc_bytes(op), op.n_bytes),
        scratch_ops=peer.scratch_ops & _MAY_EXPAND,
        forgets_sources=True,
        offload_ops=frozenset(),  # offload_op is NULL
        staging=lambda _n_devices, _largest: Staging(),
        optimizer=Optimizer.NONE,  # graph_optimize is NULL, and the peer computes the graph as it comes
    )


def _local_traits(device: Device) -> Traits:
    if device.backend is Backend.VULKAN:
        return _vulkan(_LAVAPIPE if "llvmpipe" in device.name.lower() else _DESKTOP)
    if device.backend is Backend.HIP:
        return _HIP
    return {Backend.CUDA: _CUDA, Backend.METAL: _METAL, Backend.SYCL: _SYCL}[device.backend]
