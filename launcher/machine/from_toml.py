"""Read a machine from TOML: from `probe --save`, from profiles/machines, or written by hand. Pure."""

# A hand-written file needs little:
#
#     [ram]
#     total = "256 GiB"
#     limit = "8 GiB"              # a container's, and what its host has free, where an APU has that
#     host_available = "118 GiB"
#
#     [[device]]
#     gpu = "3090"          # everything about the card, from `launcher.machine.gpus`
#     count = 2
#
#     [[device]]
#     gpu = "3090"
#     rpc = "10.0.0.2:50052"       # on another machine, behind its ggml-rpc-server; may be backend = "cpu"
#
# Sizes are text (`"80 GiB"`) or whole numbers of bytes. `"unknown"` stands for a value that nobody knows, if
# leaving the key out would mean a default.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.errors import NotFound
from launcher.machine.from_words import ASSUMED_CPU, ASSUMED_CPU_NOTE, ID_PREFIX, idle_available, numbered
from launcher.machine.gpus import gpu_named, idle_device
from launcher.machine.machine import (
    MAX_CPUS,
    MAX_DEVICES,
    Backend,
    Cpu,
    Device,
    Filesystem,
    Link,
    Machine,
    MemoryPool,
    Peer,
    parse_cpu_list,
)
from launcher.machine.peers import is_endpoint, number_peers
from launcher.machine.shared_memory import shares
from launcher.system.toml_table import TomlTable, parse_toml
from launcher.units import MIB

_MAX_BYTES = 1 << 60
_MAX_NODES = 1024  # NUMA nodes that a Linux kernel takes (CONFIG_NODES_SHIFT 10, arch/x86/Kconfig)

UNKNOWN = "unknown"


def parse_machine(text: str, name: str) -> Machine:
    """Read the machine in a TOML text; errors call the file `name`. Raises UsageError."""
    top = parse_toml(text, file=name)
    ram = _read_ram(top.table("ram"))
    cpu_table = top.optional_table("cpu")
    device_tables = top.tables("device") if top.has("device") else ()
    devices = _read_devices(device_tables, ram.total_bytes)
    if len(devices) > MAX_DEVICES:
        top.fail("device", f"lists {len(devices)} devices, llama.cpp takes at most {MAX_DEVICES}")
    notes = top.texts("notes")
    if cpu_table is None and not notes:
        notes = (ASSUMED_CPU_NOTE,)
    store = top.optional_table("store")
    machine = Machine(
        os=top.optional_text("os") or "linux",
        arch=top.optional_text("arch") or "x86_64",
        cpu=ASSUMED_CPU if cpu_table is None else _read_cpu(cpu_table),
        ram_total_bytes=ram.total_bytes,
        ram_available_bytes=ram.available_bytes,
        ram_limit_bytes=ram.limit_bytes,
        nodes=tuple(_read_node(table) for table in (top.tables("node") if top.has("node") else ())),
        devices=devices,
        store=None if store is None else _read_store(store),
        notes=notes,
        ram_bandwidth=ram.bandwidth,
        ram_read_rate=ram.read_rate,
        host_available_bytes=ram.host_available_bytes,
    )
    top.finish()
    return machine


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ram:
    total_bytes: int
    available_bytes: int
    limit_bytes: int | None
    host_available_bytes: int | None
    bandwidth: int | None  # bytes/s
    read_rate: int | None  # bytes/s


def _read_ram(table: TomlTable) -> _Ram:
    total = table.size("total", 1, _MAX_BYTES)
    limit = table.optional_size("limit", 1, _MAX_BYTES)
    available = table.optional_size("available", 0, total)
    host_available = table.optional_size("host_available", 0, total)
    bandwidth = table.optional_number("bandwidth_gb_s", 0.1, 100_000)
    read_rate = table.optional_number("read_gb_s", 0.1, 100_000)
    table.finish()
    if available is None:
        available = idle_available(total)
        available = available if limit is None else min(available, limit)
    return _Ram(
        total_bytes=total,
        available_bytes=available,
        limit_bytes=limit,
        host_available_bytes=host_available,
        bandwidth=None if bandwidth is None else round(bandwidth * 1e9),
        read_rate=None if read_rate is None else round(read_rate * 1e9),
    )


def _read_cpu(table: TomlTable) -> Cpu:
    physical = table.optional_integer("physical_cores", 1, MAX_CPUS)
    if physical is not None and not table.has("logical_cores"):
        logical = physical
    else:
        logical = table.integer("logical_cores", 1, MAX_CPUS)
    performance = physical
    if _take_unknown(table, "performance_cores"):
        performance = None
    elif table.has("performance_cores"):
        performance = table.integer("performance_cores", 1, MAX_CPUS)
    cpu = Cpu(
        name=table.optional_text("name"),
        physical_cores=physical,
        performance_cores=performance,
        logical_cores=logical,
        affinity=table.optional_integer("affinity", 1, MAX_CPUS) or logical,
        quota=table.optional_number("quota", 0.001, MAX_CPUS),
        isa=table.texts("isa"),
    )
    table.finish()
    return cpu


def _read_node(table: TomlTable) -> MemoryPool:
    cpus = _parsed_cpus(table)
    total = table.size("total", 0, _MAX_BYTES)
    node = MemoryPool(
        node=table.integer("node", 0, _MAX_NODES - 1),
        total_bytes=total,
        free_bytes=table.optional_size("free", 0, total),
        cpus=cpus,
    )
    table.finish()
    return node


def _parsed_cpus(table: TomlTable) -> tuple[int, ...]:
    text = table.optional_text("cpus")
    cpus = () if text is None else parse_cpu_list(text)
    if cpus is None:
        table.fail("cpus", f"is {text!r}, not a list like 0-3,8 of CPUs below {MAX_CPUS}")
    return cpus


def _read_store(table: TomlTable) -> Filesystem:
    total = table.size("total", 0, _MAX_BYTES)
    fault_rate = table.optional_number("faults_gb_s", 1e-6, 1000)
    store = Filesystem(
        path=table.text("path"),
        type=table.optional_text("type"),
        total_bytes=total,
        free_bytes=table.size("free", 0, total),
        fault_rate=None if fault_rate is None else round(fault_rate * 1e9),
    )
    table.finish()
    return store


def _read_devices(tables: Sequence[TomlTable], ram_bytes: int) -> tuple[Device, ...]:
    devices: list[Device] = []
    for table in tables:
        count = table.optional_integer("count", 1, MAX_DEVICES) or 1
        device = _read_device(table, ram_bytes)
        if count > 1 and device.id:
            table.fail(
                "id", f"is {device.id!r} for {count} devices", hint="leave out id, or write them one by one"
            )
        devices += [device] * count
        table.finish()
    remote = number_peers([device for device in devices if device.peer is not None])
    named = (*remote, *numbered([device for device in devices if device.peer is None]))
    ids = [device.id for device in named]
    for device_id in ids:
        if ids.count(device_id) > 1:
            tables[0].fail("id", f"{device_id!r} is the name of {ids.count(device_id)} devices")
    return named


def _read_device(table: TomlTable, ram_bytes: int) -> Device:
    """Read one `[[device]]`; its id stays empty if the file gives none."""
    shorthand = table.optional_text("gpu")
    if shorthand is None:
        device, reserved = _described_device(table), 0
    else:
        try:
            gpu = gpu_named(shorthand)
        except NotFound as error:
            table.fail("gpu", f"is {shorthand!r}, which no known GPU is called", hint=error.hint)
        device, reserved = idle_device(gpu, id="", ram_bytes=ram_bytes), gpu.reserved_mib * MIB
    total = table.optional_size("total", 1, _MAX_BYTES) or device.total_bytes
    free: int | None = max(0, total - reserved)
    if _take_unknown(table, "free"):
        free = None
    elif table.has("free"):
        free = table.size("free", 0, total)
    stated = table.optional_flag("shares_host_memory")
    carve_out = table.optional_size("carve_out", 0, total) or 0
    device = replace(
        device,
        id=table.optional_text("id") or "",
        name=table.optional_text("name") or device.name,
        total_bytes=total,
        free_bytes=free,
        carve_out_bytes=carve_out,
        uuid=table.optional_text("uuid"),
        link=_read_link(table, device.link),
        compute_capability=table.optional_text("compute_capability") or device.compute_capability,
        driver=table.optional_text("driver"),
        kernel_driver=table.optional_text("kernel_driver"),
        display=table.optional_flag("display"),
    )
    endpoint = table.optional_text("rpc")
    if endpoint is not None:
        return _read_peer(table, device, endpoint)
    shared = shares(device, ram_bytes) if stated is None else stated
    if carve_out and not shared:
        table.fail("carve_out", "is for devices that share the host's memory", hint="set shares_host_memory")
    return replace(device, shares_host_memory=shared)


def _read_peer(table: TomlTable, device: Device, endpoint: str) -> Device:
    """Return a device on another machine, whose memory is not this one's."""
    if not is_endpoint(endpoint):
        table.fail("rpc", f"is {endpoint!r}, not HOST:PORT", hint='write it like rpc = "10.0.0.2:50052"')
    if device.id or device.shares_host_memory or device.carve_out_bytes:
        table.fail("rpc", "goes with neither id, shares_host_memory nor carve_out", hint="leave them out")
    return replace(device, peer=Peer(endpoint=endpoint))


def _described_device(table: TomlTable) -> Device:
    """Start a device without `gpu`, which must give backend, name and total itself."""
    backends = {backend.value: backend for backend in ID_PREFIX}
    if table.has("rpc"):
        backends[Backend.CPU.value] = Backend.CPU
    text = table.text("backend")
    if text not in backends:
        table.fail("backend", f"is {text!r}, not one of {', '.join(backends)}")
    for key in ("name", "total"):
        if not table.has(key):
            table.fail(key, "is missing", hint='give it, or name a known card with gpu = "3090"')
    return Device(id="", backend=backends[text], name="", total_bytes=0, free_bytes=None)


def _read_link(table: TomlTable, known: Link | None) -> Link | None:
    values: dict[str, int | None] = {
        "pcie_generation": known.pcie_generation if known else None,
        "pcie_width": known.pcie_width if known else None,
    }
    given = False
    for key, most in (("pcie_generation", 9), ("pcie_width", 32)):
        if table.has(key):
            given = True
            values[key] = None if _take_unknown(table, key) else table.integer(key, 1, most)
    if known is None and not given:
        return None
    return Link(pcie_generation=values["pcie_generation"], pcie_width=values["pcie_width"])


def _take_unknown(table: TomlTable, key: str) -> bool:
    """Return True, and take the key, if its value is the word for null."""
    if not table.is_text(key, UNKNOWN):
        return False
    table.text(key)
    return True
