"""Virtual GPUs: devices that llama.cpp can register, ask and allocate on, with no memory behind them.

`register_devices` describes `machine.Device`s to ggml through the structures of `layout`, answering by
`traits`. Their buffers have an address that nobody dereferences: data is dropped on its way in, and the CPU's
own buffer type is made virtual as well, so that a simulated host takes no host memory.

Everything registered lives as long as the process: ggml cannot forget a device.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_int, c_size_t
from typing import Any

from launcher.machine.machine import Backend, Device
from launcher.simulate.abi import layout
from launcher.simulate.abi.binding import Binding
from launcher.simulate.abi.layout import BUFT_IN_BUFFER, SIZE_IN_BUFFER, TensorOffsets
from launcher.simulate.abi.ops import QUANTIZED, decode_op, is_k_view, op_key, source_addresses
from launcher.simulate.backends.optimize import optimize
from launcher.simulate.backends.traits import OFFLOAD_MIN_BATCH, Optimizer, Traits, traits_of

_NOWHERE = 1 << 32
"""The address every virtual buffer starts at: aligned for everything, mapped by nothing."""
_NE = struct.Struct("4q")


class VirtualDevices:
    """The virtual devices of this process. `addresses` are their ggml_backend_dev_t and `buffer_types`
    their default ggml_backend_buffer_type_t, by device id.

    `counting` tells what is allocated on each of them meanwhile. `reserving` is on while the graphs are reserved whose sizes count: only then do the backends' graph
    optimisations run. `faults` collects what callbacks raise, which cannot pass through C.
    """

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.addresses: dict[str, int] = {}
        self.buffer_types: dict[str, int] = {}
        self.reserving = False
        self.faults: list[BaseException] = []
        self.device_bufts: set[int] = set()
        self._taken: Counter[str] = Counter()
        self._kept: list[object] = []
        self._buffer_interface = self._virtual_memory()

    def collect_faults(self) -> None:
        """Have everything that callbacks raise in this process end in `faults`."""

        def collect(report: Any) -> None:
            self.faults.append(report.exc_value or report.exc_type())

        sys.unraisablehook = collect

    def keep(self, thing: Any) -> Any:
        """Hold on to what C has a pointer to."""
        self._kept.append(thing)
        return thing

    def callback(self, kind: Any, function: Callable[..., Any]) -> Any:
        """A C callback. What it raises goes to sys.unraisablehook, and C sees 0 (see `collect_faults`)."""
        return self.keep(kind(function))

    def constant(self, kind: Any, value: Any) -> Any:
        """A C callback that always answers `value`."""
        return self.keep(kind(lambda *_: value))

    def string(self, value: str) -> Any:
        """A C callback that always answers this string."""
        characters = self.keep(ctypes.create_string_buffer(value.encode()))
        return self.constant(layout.TO_NAME, ctypes.addressof(characters))

    @contextmanager
    def counting(self) -> Iterator[Mapping[str, int]]:
        """Bytes that are allocated on each device, by its id, counted from here on."""
        self._taken = Counter()
        yield self._taken

    def allocator(self, extra_bytes: int = 0, *, device: str = "") -> Any:
        """An alloc_buffer callback whose buffers are virtual, and counted where they are a device's."""
        create = self.binding.base.ggml_backend_buffer_init

        def alloc(buft: int, size: int) -> int | None:
            if device:
                self._taken[device] += size
            buffer: int | None = create(buft, self._buffer_interface, None, size + extra_bytes)
            return buffer

        return self.callback(layout.ALLOC_BUFFER, alloc)

    def make_cpu_virtual(self) -> None:
        """Replace the allocator of ggml's CPU buffer type in this process."""
        address = self.binding.base.ggml_backend_cpu_buffer_type()
        layout.BufferType.from_address(address).iface.alloc_buffer = self.allocator()

    def _virtual_memory(self) -> layout.BufferInterface:
        interface = layout.BufferInterface()
        # a buffer of size 0 must have a null base (llama.cpp asserts that the rest have one)
        interface.get_base = self.callback(
            layout.TO_POINTER,
            lambda buffer: _NOWHERE if c_size_t.from_address(buffer + SIZE_IN_BUFFER).value else None,
        )
        interface.clear = self.constant(layout.CLEAR, None)
        interface.memset_tensor = self.constant(layout.MEMSET_TENSOR, None)
        interface.set_tensor = self.constant(layout.SET_TENSOR, None)
        interface.get_tensor = self.constant(layout.SET_TENSOR, None)
        self.keep(interface)
        return interface


def register_devices(binding: Binding, devices: tuple[Device, ...]) -> VirtualDevices:
    """Register the devices, one registry for each backend family, and make the host's memory virtual."""
    virtual = VirtualDevices(binding)
    virtual.collect_faults()
    virtual.make_cpu_virtual()
    families: dict[str, list[Device]] = {}
    for device in devices:
        families.setdefault(traits_of(device).registry, []).append(device)
    for name, members in families.items():
        _register_family(virtual, name, members)
    return virtual


def _register_family(virtual: VirtualDevices, name: str, devices: list[Device]) -> None:
    records = virtual.keep((layout.VirtualDevice * len(devices))())
    registry = virtual.keep(layout.Registry())
    host = _host_buffer_type(virtual, traits_of(devices[0]), ctypes.addressof(records[0]))
    for record, device in zip(records, devices, strict=True):
        record.reg = ctypes.addressof(registry)
        _describe(virtual, record, device, host)
        virtual.addresses[device.id] = ctypes.addressof(record)
    addresses = [ctypes.addressof(record) for record in records]
    registry.api_version = layout.SUPPORTED_API_VERSIONS[-1]
    registry.iface.get_name = virtual.string(name)
    registry.iface.get_device_count = virtual.constant(layout.TO_SIZE, len(devices))
    registry.iface.get_device = virtual.callback(layout.GET_DEVICE, lambda _, index: addresses[index])
    registry.iface.get_proc_address = virtual.constant(layout.GET_PROC, None)
    virtual.binding.ggml.ggml_backend_register(ctypes.addressof(registry))


def _host_buffer_type(virtual: VirtualDevices, traits: Traits, device: int) -> int | None:
    """The address of the family's pinned host buffer type, which belongs to its first device."""
    if traits.host_buffer is None:
        return None
    host = virtual.keep(layout.BufferType())
    host.device = device
    host.iface.get_name = virtual.string(traits.host_buffer)
    host.iface.alloc_buffer = virtual.allocator(traits.host_extra_bytes)
    host.iface.get_alignment = virtual.constant(layout.TO_SIZE, traits.host_alignment)
    host.iface.is_host = virtual.constant(layout.TO_BOOL, value=True)
    if traits.max_buffer_bytes is not None:
        host.iface.get_max_size = virtual.constant(layout.TO_SIZE, traits.max_buffer_bytes)
    return ctypes.addressof(host)


def _device_buffer_type(virtual: VirtualDevices, traits: Traits, device: Device, address: int) -> int:
    buft = virtual.keep(layout.BufferType())
    buft.device = address
    buft.iface.get_name = virtual.string(device.id)
    buft.iface.alloc_buffer = virtual.allocator(device=device.id)
    buft.iface.get_alignment = virtual.constant(layout.TO_SIZE, traits.alignment)
    if traits.max_buffer_bytes is not None:
        buft.iface.get_max_size = virtual.constant(layout.TO_SIZE, traits.max_buffer_bytes)
    if traits.scratch_ops or traits.row_padding:
        buft.iface.get_alloc_size = virtual.callback(layout.ALLOC_SIZE, _alloc_size(virtual, traits))
    virtual.device_bufts.add(ctypes.addressof(buft))
    virtual.buffer_types[device.id] = ctypes.addressof(buft)
    return ctypes.addressof(buft)


def _describe(
    virtual: VirtualDevices, record: layout.VirtualDevice, device: Device, host: int | None
) -> None:
    """Fill in one device: what it is called, what it has, what it can do."""
    traits, name = traits_of(device), device.id.encode()
    address = ctypes.addressof(record)
    buft = _device_buffer_type(virtual, traits, device, address)
    backend = _backend(virtual, traits, name, address)
    is_integrated = device.shares_host_memory and device.backend is not Backend.METAL
    kind = layout.DEVICE_TYPE_IGPU if is_integrated else layout.DEVICE_TYPE_GPU
    total = device.total_bytes
    free = total if device.free_bytes is None else device.free_bytes

    def memory(_device: int, free_at: Any, total_at: Any) -> None:
        free_at[0], total_at[0] = free, total

    def properties(_device: int, at: Any) -> None:
        into = at[0]
        into.name, into.description, into.device_id = name, device.name.encode(), None
        into.memory_free, into.memory_total, into.type = free, total, kind
        into.caps.async_compute, into.caps.events = traits.async_compute, traits.events
        into.caps.host_buffer = traits.host_buffer is not None
        into.caps.buffer_from_host_ptr, into.caps.mmap_support = False, not is_integrated

    iface = record.iface
    iface.get_name = virtual.string(name.decode())
    iface.get_description = virtual.string(device.name)
    iface.get_memory = virtual.callback(layout.GET_MEMORY, memory)
    iface.get_type = virtual.constant(layout.TO_INT, kind)
    iface.get_props = virtual.callback(layout.GET_PROPS, properties)
    iface.init_backend = virtual.constant(layout.INIT_BACKEND, backend)
    iface.get_buffer_type = virtual.constant(layout.TO_POINTER, buft)
    if host is not None:
        iface.get_host_buffer_type = virtual.constant(layout.TO_POINTER, host)
    iface.supports_op = virtual.callback(layout.PREDICATE, _supports_op(virtual, traits, buft))
    iface.supports_buft = virtual.callback(layout.PREDICATE, lambda _, other: other == buft)
    iface.offload_op = virtual.callback(layout.PREDICATE, _offload_op(virtual, traits))
    iface.event_new = virtual.constant(layout.TO_POINTER, None)


def _backend(virtual: VirtualDevices, traits: Traits, name: bytes, device: int) -> int:
    """The stream of one device; it computes nothing."""
    guid = virtual.keep((ctypes.c_uint8 * 16)(*name[:16]))
    backend = virtual.keep(layout.GgmlBackend())
    backend.guid, backend.device = ctypes.addressof(guid), device
    backend.iface.get_name = virtual.string(name.decode())
    backend.iface.free = virtual.constant(layout.TO_NOTHING, None)
    backend.iface.synchronize = virtual.constant(layout.TO_NOTHING, None)
    backend.iface.graph_compute = virtual.constant(layout.COMPUTE, 0)
    if traits.optimizer is not Optimizer.NONE:
        names, has_params = virtual.binding.op_names, virtual.binding.has_alloc_deps

        def optimize_graph(_backend: int, graph: int, params: int) -> None:
            if virtual.reserving:
                optimize(traits.optimizer, graph, params if has_params else None, names)

        backend.iface.graph_optimize = virtual.callback(layout.OPTIMIZE, optimize_graph)
    return ctypes.addressof(backend)


def _supports_op(virtual: VirtualDevices, traits: Traits, own_buft: int) -> Callable[[int, int], bool]:
    names = virtual.binding.op_names
    always = frozenset(code for code, name in enumerate(names) if name in traits.always)
    uncached = frozenset(code for code, name in enumerate(names) if name in traits.offset_ops)
    known: dict[bytes, bool] = {}
    siblings, checks_sources = virtual.device_bufts, traits.checks_sources
    read_bytes, size_at = ctypes.string_at, c_size_t.from_address

    def is_elsewhere(source: int) -> bool:
        buffer = size_at(source + TensorOffsets.BUFFER).value
        if not buffer:
            return False
        buft = size_at(buffer + BUFT_IN_BUFFER).value
        return buft != own_buft and buft in siblings

    def supports_op(_device: int, op: int) -> bool:
        head = read_bytes(op, TensorOffsets.HEAD_SIZE)
        if checks_sources:
            for source in source_addresses(head):
                if source and is_elsewhere(source):
                    return False
        code = head[TensorOffsets.OP]
        if code in always:
            return True
        if code in uncached:
            return traits.supports(decode_op(head, names))
        key = op_key(head)
        verdict = known.get(key)
        if verdict is None:
            verdict = known[key] = traits.supports(decode_op(head, names))
        return verdict

    return supports_op


def _offload_op(virtual: VirtualDevices, traits: Traits) -> Callable[[int, int], bool]:
    """Whether an operation on host weights is worth doing on the device: get_op_batch_size and offload_op of
    the backends (ggml-cuda.cu, ggml-vulkan-debug.cpp, ggml-metal.cpp, ggml-sycl.cpp)."""
    names = virtual.binding.op_names
    third = frozenset(("MUL_MAT_ID", "ROPE", "ROPE_BACK"))

    def offload_op(_device: int, op: int) -> bool:
        name = names[c_int.from_address(op + TensorOffsets.OP).value]
        if name == "GET_ROWS" or (traits.offload_ops is not None and name not in traits.offload_ops):
            return False
        ne = _NE.unpack(ctypes.string_at(op + TensorOffsets.NE, _NE.size))
        n_tokens: int = ne[1] if name == "MUL_MAT" else ne[2] if name in third else ne[1] * ne[2] * ne[3]
        return n_tokens >= OFFLOAD_MIN_BATCH

    return offload_op


def _alloc_size(virtual: VirtualDevices, traits: Traits) -> Callable[[int, int], int]:
    names = virtual.binding.op_names
    n_bytes = virtual.binding.base.ggml_nbytes
    scratch = frozenset(code for code, name in enumerate(names) if name in traits.scratch_ops)
    padded = QUANTIZED if traits.row_padding else frozenset[int]()
    known: dict[bytes, int] = {}

    def alloc_size(_buft: int, tensor: int) -> int:
        code = c_int.from_address(tensor + TensorOffsets.OP).value
        if code not in scratch and c_int.from_address(tensor).value not in padded:
            plain: int = n_bytes(tensor)
            return plain
        head = ctypes.string_at(tensor, TensorOffsets.HEAD_SIZE)
        key = op_key(head) + bytes((is_k_view(head),))
        size = known.get(key)
        if size is None:
            size = known[key] = traits.alloc_bytes(decode_op(head, names))
        return size

    return alloc_size
