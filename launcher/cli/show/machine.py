"""The machine as a card and a table of its GPUs."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import facts, grid, line
from launcher.machine.machine import Cpu, Device, Filesystem, Machine
from launcher.units import format_bytes


def render_machine(machine: Machine) -> RenderableType:
    """Lay out the machine as the planner sees it."""
    cpu = machine.cpu
    parts: list[RenderableType] = [
        facts(
            [
                ("system", f"{machine.os} {machine.arch}"),
                ("cpu", _cpu(cpu)),
                ("isa", " ".join(cpu.isa) or None),
                ("ram", _ram(machine)),
                ("numa", _numa(machine)),
                ("store", _store(machine.store)),
            ]
        )
    ]
    if machine.devices:
        headers = ("device", "name", "total", "free", "link", "driver")
        rows = [_device(device) for device in machine.devices]
        parts.append(grid(headers, rows, right=frozenset({"total", "free"})))
    else:
        parts.append(Text("no GPU: models run on the CPU"))
    parts += [line(f"note: {note}") for note in machine.notes]
    return Group(*parts)


def _cpu(cpu: Cpu) -> str:
    fast = f"{cpu.performance_cores or '?'} fast"
    cores = f"{cpu.physical_cores or '?'} cores ({fast}), {cpu.logical_cores} threads"
    quota = f"; limited to {cpu.quota:g} by cgroup" if cpu.quota is not None else ""
    return f"{cpu.name or 'unknown'}: {cores}, {cpu.affinity} usable{quota}"


def _ram(machine: Machine) -> str:
    limit = machine.ram_limit_bytes
    available, total = format_bytes(machine.ram_available_bytes), format_bytes(machine.ram_total_bytes)
    return f"{available} available of {total}" + (
        "" if limit is None else f", cgroup limit {format_bytes(limit)}"
    )


def _numa(machine: Machine) -> str | None:
    if len(machine.nodes) < 2:
        return None  # one node is all of the RAM, which has its own line
    return ", ".join(
        f"node {node.node}: {format_bytes(node.free_bytes)} free of {format_bytes(node.total_bytes)}"
        for node in machine.nodes
    )


def _store(store: Filesystem | None) -> str | None:
    if store is None:
        return None
    space = f"{format_bytes(store.free_bytes)} free of {format_bytes(store.total_bytes)}"
    return f"{store.path} ({store.type or '?'}): {space}"


def _device(device: Device) -> tuple[str, ...]:
    link = device.link
    pcie = f"PCIe {link.pcie_generation or '?'} x{link.pcie_width or '?'}" if link else "?"
    shared = " (one pool with the RAM)" if device.lies_in_ram else ""
    return (
        device.id,
        device.name + shared,
        format_bytes(device.total_bytes),
        format_bytes(device.free_bytes),
        pcie,
        device.driver or "?",
    )
