"""The C structures of ggml's backend interface, as ctypes, by GGML_BACKEND_API_VERSION.

ggml promises nothing about them between versions: an unknown version is refused, and the caller falls back to
formulas. Version 2 is ggml/src/ggml-backend-impl.h, ggml/include/ggml-backend.h (ggml_backend_dev_props) and
ggml/src/ggml-impl.h (ggml_cgraph) of llama.cpp 0c1e570. Version 3 (b11434) has two optional functions more in
its buffer types, and is the same elsewhere.

This module knows addresses and offsets only: no memory is read here.
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_bool, c_char_p, c_int, c_size_t, c_uint8, c_void_p

# stated by a library in the first int of every registry (struct ggml_backend_reg.api_version)
SUPPORTED_API_VERSIONS = (2, 3)

# function types
# a C string by its address: ctypes leaks one reference for every bytes object that a callback returns
TO_NAME = CFUNCTYPE(c_void_p, c_void_p)
TO_SIZE = CFUNCTYPE(c_size_t, c_void_p)
TO_POINTER = CFUNCTYPE(c_void_p, c_void_p)
TO_BOOL = CFUNCTYPE(c_bool, c_void_p)
TO_INT = CFUNCTYPE(c_int, c_void_p)
TO_NOTHING = CFUNCTYPE(None, c_void_p)
ALLOC_BUFFER = CFUNCTYPE(c_void_p, c_void_p, c_size_t)
ALLOC_SIZE = CFUNCTYPE(c_size_t, c_void_p, c_void_p)
PREDICATE = CFUNCTYPE(c_bool, c_void_p, c_void_p)
CLEAR = CFUNCTYPE(None, c_void_p, c_uint8)
SET_TENSOR = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_size_t, c_size_t)
MEMSET_TENSOR = CFUNCTYPE(None, c_void_p, c_void_p, c_uint8, c_size_t, c_size_t)
COMPUTE = CFUNCTYPE(c_int, c_void_p, c_void_p)
OPTIMIZE = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)
INIT_BACKEND = CFUNCTYPE(c_void_p, c_void_p, c_char_p)
GET_MEMORY = CFUNCTYPE(None, c_void_p, POINTER(c_size_t), POINTER(c_size_t))
GET_DEVICE = CFUNCTYPE(c_void_p, c_void_p, c_size_t)
GET_PROC = CFUNCTYPE(c_void_p, c_void_p, c_char_p)
_ADD_ALLOC_DEP = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)

# enum ggml_backend_dev_type: CPU 0, GPU 1, IGPU 2, ACCEL 3 (ggml/include/ggml-backend.h)
DEVICE_TYPE_GPU = 1
DEVICE_TYPE_IGPU = 2


class BufferTypeInterface(Structure):
    _fields_ = (
        ("get_name", TO_NAME),
        ("alloc_buffer", ALLOC_BUFFER),
        ("get_alignment", TO_SIZE),
        ("get_max_size", TO_SIZE),
        ("get_alloc_size", ALLOC_SIZE),
        ("is_host", TO_BOOL),
    )


class BufferTypeInterface3(Structure):
    # without the two `_n` ggml falls back on the function before each (ggml-backend.cpp, ggml-alloc.c)
    _fields_ = (
        ("get_name", TO_NAME),
        ("alloc_buffer", ALLOC_BUFFER),
        ("alloc_buffer_n", c_void_p),
        ("get_alignment", TO_SIZE),
        ("get_max_size", TO_SIZE),
        ("get_alloc_size", ALLOC_SIZE),
        ("get_alloc_size_n", c_void_p),
        ("is_host", TO_BOOL),
    )


class BufferType(Structure):
    _fields_ = (("iface", BufferTypeInterface), ("device", c_void_p), ("context", c_void_p))


class BufferType3(Structure):
    _fields_ = (("iface", BufferTypeInterface3), ("device", c_void_p), ("context", c_void_p))


def buffer_type_of(api_version: int) -> type[BufferType | BufferType3]:
    """Return the structure of buffer types in a supported version."""
    return BufferType if api_version < 3 else BufferType3


class BufferInterface(Structure):
    _fields_ = (
        ("free_buffer", c_void_p),
        ("get_base", TO_POINTER),
        ("init_tensor", c_void_p),
        ("memset_tensor", MEMSET_TENSOR),
        ("set_tensor", SET_TENSOR),
        ("get_tensor", SET_TENSOR),
        ("set_tensor_2d", c_void_p),
        ("get_tensor_2d", c_void_p),
        ("cpy_tensor", c_void_p),
        ("clear", CLEAR),
        ("reset", c_void_p),
    )


class Buffer(Structure):
    _fields_ = (
        ("iface", BufferInterface),
        ("buft", c_void_p),
        ("context", c_void_p),
        ("size", c_size_t),
        ("usage", c_int),
    )


class BackendInterface(Structure):
    _fields_ = (
        ("get_name", TO_NAME),
        ("free", TO_NOTHING),
        ("set_tensor_async", c_void_p),
        ("get_tensor_async", c_void_p),
        ("set_tensor_2d_async", c_void_p),
        ("get_tensor_2d_async", c_void_p),
        ("cpy_tensor_async", c_void_p),
        ("synchronize", TO_NOTHING),
        ("graph_plan_create", c_void_p),
        ("graph_plan_free", c_void_p),
        ("graph_plan_update", c_void_p),
        ("graph_plan_compute", c_void_p),
        ("graph_compute", COMPUTE),
        ("event_record", c_void_p),
        ("event_wait", c_void_p),
        ("graph_optimize", OPTIMIZE),
    )


class GgmlBackend(Structure):
    _fields_ = (("guid", c_void_p), ("iface", BackendInterface), ("device", c_void_p), ("context", c_void_p))


class DeviceCapabilities(Structure):
    _fields_ = (
        ("async_compute", c_bool),
        ("host_buffer", c_bool),
        ("buffer_from_host_ptr", c_bool),
        ("events", c_bool),
        ("mmap_support", c_bool),
    )


class DeviceProperties(Structure):
    _fields_ = (
        ("name", c_char_p),
        ("description", c_char_p),
        ("memory_free", c_size_t),
        ("memory_total", c_size_t),
        ("type", c_int),
        ("device_id", c_char_p),
        ("caps", DeviceCapabilities),
    )


GET_PROPS = CFUNCTYPE(None, c_void_p, POINTER(DeviceProperties))


class DeviceInterface(Structure):
    _fields_ = (
        ("get_name", TO_NAME),
        ("get_description", TO_NAME),
        ("get_memory", GET_MEMORY),
        ("get_type", TO_INT),
        ("get_props", GET_PROPS),
        ("init_backend", INIT_BACKEND),
        ("get_buffer_type", TO_POINTER),
        ("get_host_buffer_type", TO_POINTER),
        ("buffer_from_host_ptr", c_void_p),
        ("supports_op", PREDICATE),
        ("supports_buft", PREDICATE),
        ("offload_op", PREDICATE),
        ("event_new", TO_POINTER),
        ("event_free", CFUNCTYPE(None, c_void_p, c_void_p)),
        ("event_synchronize", CFUNCTYPE(None, c_void_p, c_void_p)),
    )


class VirtualDevice(Structure):
    _fields_ = (("iface", DeviceInterface), ("reg", c_void_p), ("context", c_void_p))


class RegistryInterface(Structure):
    _fields_ = (
        ("get_name", TO_NAME),
        ("get_device_count", TO_SIZE),
        ("get_device", GET_DEVICE),
        ("get_proc_address", GET_PROC),
    )


class Registry(Structure):
    _fields_ = (("api_version", c_int), ("iface", RegistryInterface), ("context", c_void_p))


class OptimizeParams(Structure):
    """struct ggml_backend_graph_optimize_params: keeps a tensor alive until a later node."""

    _fields_ = (("add_alloc_dep", _ADD_ALLOC_DEP), ("user_data", c_void_p))


class Graph(Structure):
    """The part of struct ggml_cgraph (ggml/src/ggml-impl.h) that is read, from its beginning."""

    _fields_ = (
        ("size", c_int),
        ("n_nodes", c_int),
        ("n_leafs", c_int),
        ("nodes", POINTER(c_void_p)),
        ("grads", c_void_p),
        ("grad_accs", c_void_p),
        ("leafs", c_void_p),
        ("use_counts", POINTER(ctypes.c_int32)),
        ("hash_size", c_size_t),
        ("hash_used", POINTER(ctypes.c_uint32)),
        ("hash_keys", POINTER(c_void_p)),
    )


class InitParameters(Structure):
    """struct ggml_init_params (ggml/include/ggml.h)."""

    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


class BufferTypeOverride(Structure):
    """struct llama_model_tensor_buft_override (include/llama.h)."""

    _fields_ = (("pattern", c_char_p), ("buft", c_void_p))


class TensorOffsets:
    """Byte offsets inside struct ggml_tensor (ggml/include/ggml.h)."""

    TYPE = 0
    BUFFER = 8
    NE = 16
    NB = 48
    OP = 80
    OP_PARAMS = 84
    FLAGS = 148
    SRC = 152
    VIEW_SRC = 232
    VIEW_OFFS = 240
    NAME = 256
    HEAD_SIZE = 248  # everything before the data pointer


BUFT_IN_BUFFER = Buffer.buft.offset
SIZE_IN_BUFFER = Buffer.size.offset
