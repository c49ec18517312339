"""`--split-mode tensor`: divide llama.cpp's accounts of its one "meta" device among the real devices.

llama.cpp 0c1e570 wraps the devices in use in one "meta" device (llama_prepare_model_devices, src/llama.cpp;
ggml/src/ggml-backend-meta.cpp). Its accounts and log state for each buffer what the fullest device holds.
Here the engine's own ggml_backend_meta_alloc_ctx_tensors_from_buft lays out every weight and cache again, on
the virtual devices, whose allocations are counted.

- Weights and caches are split by llama_meta_device_get_split_state: rows, columns or whole heads, in
  proportion to `--tensor-split` (or equally, whatever the free memory), rounded to blocks. Norms and
  embeddings are copied.
- A compute buffer has its full size on every device (ggml_backend_meta_buffer_type_alloc_buffer).
- Partial sums of the other devices arrive in ceil(log2(devices)) buffers of the largest partial sum's size.
  They are taken with the first prompt (ggml_backend_meta_graph_compute): after the load, in no log.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import Structure, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from typing import Any

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST
from launcher.plan.oracle import BufferRow
from launcher.simulate.abi.binding import Binding, BreakdownEntry
from launcher.simulate.abi.graph import GraphView
from launcher.simulate.abi.layout import BUFT_IN_BUFFER, InitParameters, TensorOffsets
from launcher.simulate.abi.layout_check import Unavailable
from launcher.simulate.backends.traits import Staging, traits_of
from launcher.simulate.devices import VirtualDevices
from launcher.simulate.log import LoadLog

_GET_DEVICE = "_Z22llama_model_get_devicePK11llama_modeli"
_SPLIT_STATE = "_Z33llama_meta_device_get_split_statePK11ggml_tensorPv"
_PRODUCTS = ("MUL_MAT", "MUL_MAT_ID")
# GGML_BACKEND_SPLIT_AXIS_0: every device has some columns of the matrix, and its product is a partial sum
_AXIS_COLUMNS = 0


class _SplitState(Structure):
    """struct ggml_backend_meta_split_state (ggml/include/ggml-backend.h), of which only `axis` is read."""

    _fields_ = (
        ("axis", c_int),
        ("ne", c_int64 * (16 * 16)),
        ("nr", c_uint32 * 16),
        ("n_segments", c_uint32),
        ("more", c_uint32 * 1024),  # space for fields that another commit may have
    )


class _SplitUser(Structure):
    """struct llama_meta_device_get_split_state_userdata (src/llama-model.h)."""

    _fields_ = (("n_devices", c_size_t), ("model", c_void_p))


_Function = tuple[str, Any, tuple[Any, ...]]
_BASE: tuple[_Function, ...] = (
    ("ggml_init", c_void_p, (InitParameters,)),
    ("ggml_free", None, (c_void_p,)),
    ("ggml_tensor_overhead", c_size_t, ()),
    ("ggml_dup_tensor", c_void_p, (c_void_p, c_void_p)),
    ("ggml_set_name", c_void_p, (c_void_p, c_char_p)),
    ("ggml_backend_dev_buffer_type", c_void_p, (c_void_p,)),
    ("ggml_backend_alloc_ctx_tensors_from_buft", c_void_p, (c_void_p, c_void_p)),
    ("ggml_backend_alloc_ctx_tensors_from_buft_size", c_size_t, (c_void_p, c_void_p)),
    ("ggml_backend_buffer_free", None, (c_void_p,)),
)


class MetaDevice:
    """The meta device of a model loaded with `--split-mode tensor`; `name` is that of its buffer type.

    Raises Unavailable if the engine's library lacks a function.
    """

    def __init__(
        self, binding: Binding, virtual: VirtualDevices, model: int, devices: Sequence[Device]
    ) -> None:
        self._binding, self._virtual, self._devices = binding, virtual, devices
        self._base: Any = binding.base
        try:
            for name, result, arguments in _BASE:
                function = getattr(binding.base, name)
                function.restype, function.argtypes = result, arguments
            get_device = binding.cpp_function(_GET_DEVICE, c_void_p, (c_void_p, c_int))
            self._split_state = binding.cpp_function(_SPLIT_STATE, _SplitState, (c_void_p, c_void_p))
        except AttributeError as error:
            raise Unavailable(f"this engine cannot be asked about --split-mode tensor: {error}") from error
        self._user = _SplitUser(len(devices), model)
        self._buft: int = self._base.ggml_backend_dev_buffer_type(get_device(model, 0))
        self.name = binding.buffer_type_name(self._buft)
        # the engine's own allocator reserves 772 MB of address space a device, to split what it computes
        binding.buffer_type.from_address(self._buft).iface.alloc_buffer = virtual.allocator()
        weights = (tensor.address for tensor in binding.tensors(model))
        self._weights = tuple(address for address in weights if self._is_here(address))
        self._caches: tuple[int, ...] = ()
        self._largest_sum_bytes = 0

    def read_graph(self, address: int) -> None:
        """Note the caches that a prompt's graph uses, and its largest sum over devices."""
        graph = GraphView(address, self._binding.op_names)
        weights, caches, largest = set(self._weights), dict[int, None](), 0
        for index, node in enumerate(graph.addresses):
            op = graph.node(index)
            matrix = op.sources[0]
            if op.op in _PRODUCTS and matrix in weights and self._splits_columns(matrix):
                largest = max(largest, self._base.ggml_nbytes(node))
            for source in op.sources:
                if source and source not in weights and self._is_here(source) and not _data(source):
                    caches[source] = None
        self._caches, self._largest_sum_bytes = tuple(caches), largest

    def divide(
        self,
        breakdown: Mapping[str, BreakdownEntry],
        compute: Mapping[str, int],
        states: Mapping[str, int],
        log: LoadLog,
    ) -> tuple[dict[str, BreakdownEntry], dict[str, int], tuple[BufferRow, ...]]:
        """Replace the meta device in llama.cpp's accounts by the real ones; also return rows of partial sums.

        `states` are the bytes of recurrent states by device, which have been allocated already. Changes
        `log.recurrent_bytes` alike. Raises Unavailable if a cache is not in the graph.
        """
        whole = breakdown.get(self.name, BreakdownEntry(model=0, context=0, compute=0))
        context = self._lay_out(self._caches)
        expected = self._total(context) + max(states.values(), default=0)
        caches = self._shares(context)
        if expected != whole.context:
            raise Unavailable("not every cache of this model is in its graph, so they cannot be divided")
        weights = self._shares(self._lay_out(self._weights))
        divided, compute = dict(breakdown), dict(compute)
        divided.pop(self.name, None)
        reserved = compute.pop(self.name, 0)
        is_recurrent = bool(log.recurrent_bytes.pop(self.name, 0))
        for name in (device.id for device in self._devices):
            state = states.get(name, 0)
            divided[name] = BreakdownEntry(
                model=weights.get(name, 0), context=caches.get(name, 0) + state, compute=0
            )
            compute[name] = reserved
            if is_recurrent:
                log.recurrent_bytes[name] = state
        return divided, compute, self._partial_sums()

    def _partial_sums(self) -> tuple[BufferRow, ...]:
        """Return the buffers in which partial sums of other devices arrive, and the backend's staging."""
        n_devices, largest = len(self._devices), self._largest_sum_bytes
        if n_devices == 1 or not largest:
            return ()
        steps = (n_devices - 1).bit_length()
        traits = traits_of(self._devices[0])
        # a backend adds up by itself only if all devices are its own
        alike = len({device.backend for device in self._devices}) == 1
        staging = traits.staging(n_devices, largest) if alike else Staging()
        rows = [
            _sums_row(device.id, device.id, steps * largest + staging.device_bytes)
            for device in self._devices
        ]
        if staging.host_bytes:
            rows.append(_sums_row(HOST, str(traits.host_buffer), staging.host_bytes))
        return tuple(rows)

    def _is_here(self, tensor: int) -> bool:
        buffer = c_size_t.from_address(tensor + TensorOffsets.BUFFER).value
        return bool(buffer) and c_size_t.from_address(buffer + BUFT_IN_BUFFER).value == self._buft

    def _splits_columns(self, tensor: int) -> bool:
        state: _SplitState = self._split_state(tensor, ctypes.addressof(self._user))
        return bool(state.axis == _AXIS_COLUMNS)

    def _lay_out(self, tensors: Sequence[int]) -> int:
        """Create a ggml_context with tensors of the same names, types and shapes; return its address."""
        size = (len(tensors) + 1) * self._base.ggml_tensor_overhead()
        context: int = self._base.ggml_init(InitParameters(size, None, no_alloc=True))
        for tensor in tensors:
            twin = self._base.ggml_dup_tensor(context, tensor)
            self._base.ggml_set_name(twin, ctypes.string_at(tensor + TensorOffsets.NAME))
        return context

    def _total(self, context: int) -> int:
        """Return the bytes that llama.cpp's no_alloc accounts count for these tensors, undivided."""
        size: int = self._base.ggml_backend_alloc_ctx_tensors_from_buft_size(context, self._buft)
        return size

    def _shares(self, context: int) -> Mapping[str, int]:
        """Allocate these tensors, return the bytes on each device, and free the context."""
        with self._virtual.counting() as allocated:
            buffer = self._base.ggml_backend_alloc_ctx_tensors_from_buft(context, self._buft)
        self._base.ggml_backend_buffer_free(buffer)
        self._base.ggml_free(context)
        return allocated


_SUMS = " sums"  # what the buffer type of such a row ends with


def is_partial_sum(row: BufferRow) -> bool:
    """Return True for memory that is taken after the load, for partial sums."""
    return row.buffer_type.endswith(_SUMS)


def _sums_row(where: str, buffer_type: str, n_bytes: int) -> BufferRow:
    return BufferRow(
        where=where,
        buffer_type=buffer_type + _SUMS,
        weights_bytes=0,
        kv_bytes=0,
        recurrent_bytes=0,
        compute_bytes=n_bytes,
        output_bytes=0,
    )


def _data(tensor: int) -> int:
    return c_size_t.from_address(tensor + TensorOffsets.HEAD_SIZE).value
