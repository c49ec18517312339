"""Virtual GPUs: devices that llama.cpp can register, query and allocate on, with no memory behind them.

The CPU's own buffer type becomes virtual as well, so that a simulated host takes no host memory. All of it
lives as long as the process: ggml cannot forget a device.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_size_t
from typing import Any

from launcher.machine.machine import Backend, Device
from launcher.simulate.abi import layout
from launcher.simulate.abi.binding import Binding
from launcher.simulate.abi.layout import SIZE_IN_BUFFER
from launcher.simulate.backends.optimize import optimize
from launcher.simulate.backends.traits import Optimizer, Traits, traits_of
from launcher.simulate.op_callbacks import alloc_size, offload_op, supports_op

# the address every virtual buffer starts at: aligned for everything, mapped by nothing
_NOWHERE = 1 << 32


class VirtualDevices:
    """The virtual devices of this process, and the callbacks through which ggml uses them."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.addresses: dict[str, int] = {}  # ggml_backend_dev_t by device id
        self.buffer_types: dict[str, int] = {}  # default ggml_backend_buffer_type_t by device id
        self.reserving = False  # set while graphs are reserved for their sizes: only then they are optimised
        self.faults: list[BaseException] = []  # raised in callbacks: an exception cannot pass through C
        self.remembered: list[dict[bytes, int]] = []  # what peers were asked: forgotten between simulations
        self.host_bytes = 0  # of the newest buffer in the host's memory
        self._allocated: Counter[str] = Counter()
        self._alive: list[object] = []
        self._buffer_interface = self._virtual_memory()

    def collect_faults(self) -> None:
        """Collect in `faults` whatever callbacks raise in this process."""

        def collect(report: Any) -> None:
            self.faults.append(report.exc_value or report.exc_type())

        sys.unraisablehook = collect

    def keep(self, thing: Any) -> Any:
        """Keep `thing` alive, because C has a pointer to it, and return it."""
        self._alive.append(thing)
        return thing

    def callback(self, kind: Any, function: Callable[..., Any]) -> Any:
        """Make a C callback of a Python function. If it raises, C sees 0 (and `collect_faults` the error)."""
        return self.keep(kind(function))

    def constant(self, kind: Any, value: Any) -> Any:
        """Make a C callback that always returns `value`."""
        return self.keep(kind(lambda *_: value))

    def string(self, value: str) -> Any:
        """Make a C callback that always returns this string."""
        characters = self.keep(ctypes.create_string_buffer(value.encode()))
        return self.constant(layout.TO_NAME, ctypes.addressof(characters))

    @contextmanager
    def counting(self) -> Iterator[Mapping[str, int]]:
        """Count the bytes allocated on each device, by its id, while this context is open."""
        self._allocated = Counter()
        yield self._allocated

    def allocator(self, extra_bytes: int = 0, *, device: str = "") -> Any:
        """Make an alloc_buffer callback for virtual buffers; those of a `device` are counted."""
        create = self.binding.base.ggml_backend_buffer_init

        def alloc(buft: int, size: int) -> int | None:
            if device:
                self._allocated[device] += size
            else:
                self.host_bytes = size + extra_bytes
            buffer: int | None = create(buft, self._buffer_interface, None, size + extra_bytes)
            return buffer

        return self.callback(layout.ALLOC_BUFFER, alloc)

    def make_cpu_virtual(self) -> None:
        """Replace the allocator of ggml's CPU buffer type in this process."""
        address = self.binding.base.ggml_backend_cpu_buffer_type()
        self.binding.buffer_type.from_address(address).iface.alloc_buffer = self.allocator()

    def _virtual_memory(self) -> layout.BufferInterface:
        interface = layout.BufferInterface()
        # a buffer of size 0 must have a null base (llama.cpp asserts that the rest have one)
        interface.get_base = self.callback(
            layout.TO_POINTER,
            lambda buffer: _NOWHERE if c_size_t.from_address(buffer + SIZE_IN_BUFFER).value else None,
        )
        # data is dropped on its way in
        interface.clear = self.constant(layout.CLEAR, None)
        interface.memset_tensor = self.constant(layout.MEMSET_TENSOR, None)
        interface.set_tensor = self.constant(layout.SET_TENSOR, None)
        interface.get_tensor = self.constant(layout.SET_TENSOR, None)
        self.keep(interface)
        return interface


def register_devices(binding: Binding, devices: tuple[Device, ...]) -> VirtualDevices:
    """Register the devices, one registry per backend family, and make the host's memory virtual."""
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
    siblings: set[int] = set()
    registry = virtual.keep(layout.Registry())
    host = _host_buffer_type(virtual, traits_of(devices[0]), ctypes.addressof(records[0]))
    for record, device in zip(records, devices, strict=True):
        record.reg = ctypes.addressof(registry)
        _describe(virtual, record, device, host, siblings)
        virtual.addresses[device.id] = ctypes.addressof(record)
    addresses = [ctypes.addressof(record) for record in records]
    registry.api_version = virtual.binding.api_version
    registry.iface.get_name = virtual.string(name)
    registry.iface.get_device_count = virtual.constant(layout.TO_SIZE, len(devices))
    registry.iface.get_device = virtual.callback(layout.GET_DEVICE, lambda _, index: addresses[index])
    registry.iface.get_proc_address = virtual.constant(layout.GET_PROC, None)
    virtual.binding.ggml.ggml_backend_register(ctypes.addressof(registry))


def _host_buffer_type(virtual: VirtualDevices, traits: Traits, device: int) -> int | None:
    """Make the family's pinned host buffer type and return its address; `device` is its first device."""
    if traits.host_buffer is None:
        return None
    host = virtual.keep(virtual.binding.buffer_type())
    host.device = device
    host.iface.get_name = virtual.string(traits.host_buffer)
    host.iface.alloc_buffer = virtual.allocator(traits.host_extra_bytes)
    host.iface.get_alignment = virtual.constant(layout.TO_SIZE, traits.host_alignment)
    host.iface.is_host = virtual.constant(layout.TO_BOOL, value=True)
    if traits.max_buffer_bytes is not None:
        host.iface.get_max_size = virtual.constant(layout.TO_SIZE, traits.max_buffer_bytes)
    return ctypes.addressof(host)


def _device_buffer_type(virtual: VirtualDevices, traits: Traits, device: Device, address: int) -> int:
    """Make a device's buffer type and return its address."""
    buft = virtual.keep(virtual.binding.buffer_type())
    buft.device = address
    buft.iface.get_name = virtual.string(device.buffer_name)
    buft.iface.alloc_buffer = virtual.allocator(device=device.id)
    buft.iface.get_alignment = virtual.constant(layout.TO_SIZE, traits.alignment)
    if traits.max_buffer_bytes is not None:
        buft.iface.get_max_size = virtual.constant(layout.TO_SIZE, traits.max_buffer_bytes)
    if traits.scratch_ops or traits.row_padding:
        known: dict[bytes, int] = {}
        if traits.forgets_sources:
            virtual.remembered.append(known)
        ask = alloc_size(virtual.binding, traits, known)
        buft.iface.get_alloc_size = virtual.callback(layout.ALLOC_SIZE, ask)
    virtual.buffer_types[device.id] = ctypes.addressof(buft)
    return ctypes.addressof(buft)


def _describe(
    virtual: VirtualDevices,
    record: layout.VirtualDevice,
    device: Device,
    host: int | None,
    siblings: set[int],
) -> None:
    """Fill in one device; `host` is the address of the family's pinned host buffer type.

    `siblings` gathers the buffer types of the family's devices.
    """
    traits, op_names = traits_of(device), virtual.binding.op_names
    address = ctypes.addressof(record)
    buft = _device_buffer_type(virtual, traits, device, address)
    siblings.add(buft)
    iface = record.iface
    _describe_properties(virtual, iface, device, traits)
    iface.init_backend = virtual.constant(
        layout.INIT_BACKEND, _backend_stream(virtual, traits, device.id.encode(), address)
    )
    iface.get_buffer_type = virtual.constant(layout.TO_POINTER, buft)
    if host is not None:
        iface.get_host_buffer_type = virtual.constant(layout.TO_POINTER, host)
    iface.supports_op = virtual.callback(layout.PREDICATE, supports_op(op_names, traits, buft, siblings))
    iface.supports_buft = virtual.callback(layout.PREDICATE, lambda _, other: other == buft)
    iface.offload_op = virtual.callback(layout.PREDICATE, offload_op(op_names, traits))
    iface.event_new = virtual.constant(layout.TO_POINTER, None)


def _describe_properties(
    virtual: VirtualDevices, iface: layout.DeviceInterface, device: Device, traits: Traits
) -> None:
    """Fill in a device's names, kind, memory and capabilities."""
    name = device.id.encode()
    # Metal calls its devices GPUs although they share the host's memory
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

    iface.get_name = virtual.string(name.decode())
    iface.get_description = virtual.string(device.name)
    iface.get_memory = virtual.callback(layout.GET_MEMORY, memory)
    iface.get_type = virtual.constant(layout.TO_INT, kind)
    iface.get_props = virtual.callback(layout.GET_PROPS, properties)


def _backend_stream(virtual: VirtualDevices, traits: Traits, name: bytes, device: int) -> int:
    """Make the ggml_backend of one device, which computes nothing, and return its address."""
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
