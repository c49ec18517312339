"""Write a machine as TOML that `from_toml` reads back without loss. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import tomli_w

from launcher.machine.from_toml import UNKNOWN
from launcher.machine.machine import Cpu, Device, Machine, MemoryPool, format_cpu_list
from launcher.machine.shared_memory import shares
from launcher.units import GIB, MIB


def format_machine(machine: Machine) -> str:
    """Return TOML that `parse_machine` reads back as the same machine."""
    ram: dict[str, object] = {
        "total": _size(machine.ram_total_bytes),
        "available": _size(machine.ram_available_bytes),
    }
    if machine.ram_limit_bytes is not None:
        ram["limit"] = _size(machine.ram_limit_bytes)
    if machine.host_available_bytes is not None:
        ram["host_available"] = _size(machine.host_available_bytes)
    if machine.ram_bandwidth is not None:
        ram["bandwidth_gb_s"] = machine.ram_bandwidth / 1e9
    if machine.ram_read_rate is not None:
        ram["read_gb_s"] = machine.ram_read_rate / 1e9
    document: dict[str, object] = {"os": machine.os, "arch": machine.arch}
    if machine.notes:
        document["notes"] = list(machine.notes)
    document |= {"ram": ram, "cpu": _cpu_table(machine.cpu)}
    if machine.store is not None:
        document["store"] = _without_none(
            {
                "path": machine.store.path,
                "type": machine.store.type,
                "total": _size(machine.store.total_bytes),
                "free": _size(machine.store.free_bytes),
                "faults_gb_s": None if machine.store.fault_rate is None else machine.store.fault_rate / 1e9,
            }
        )
    if machine.nodes:
        document["node"] = [_node_table(node) for node in machine.nodes]
    if machine.devices:
        document["device"] = [_device_table(device, machine.ram_total_bytes) for device in machine.devices]
    return tomli_w.dumps(document, multiline_strings=False)


def _cpu_table(cpu: Cpu) -> dict[str, object]:
    performance: int | str | None = cpu.performance_cores
    if performance is None and cpu.physical_cores is not None:
        performance = UNKNOWN
    return _without_none(
        {
            "name": cpu.name,
            "physical_cores": cpu.physical_cores,
            "performance_cores": performance,
            "logical_cores": cpu.logical_cores,
            "affinity": cpu.affinity,
            "quota": cpu.quota,
            "isa": list(cpu.isa) or None,
        }
    )


def _node_table(node: MemoryPool) -> dict[str, object]:
    return _without_none(
        {
            "node": node.node,
            "total": _size(node.total_bytes),
            "free": None if node.free_bytes is None else _size(node.free_bytes),
            "cpus": format_cpu_list(node.cpus) or None,
        }
    )


def _device_table(device: Device, ram_bytes: int) -> dict[str, object]:
    link: dict[str, object] = {}
    if device.link is not None:
        link = {
            "pcie_generation": device.link.pcie_generation or UNKNOWN,
            "pcie_width": device.link.pcie_width or UNKNOWN,
        }
    return _without_none(
        {
            "id": device.id if device.peer is None else None,
            "rpc": None if device.peer is None else device.peer.endpoint,
            "backend": device.backend.value,
            "name": device.name,
            "total": _size(device.total_bytes),
            "free": UNKNOWN if device.free_bytes is None else _size(device.free_bytes),
            # left out where a reader takes it for granted
            "shares_host_memory": _shares_memory(device, ram_bytes),
            "carve_out": _size(device.carve_out_bytes) if device.carve_out_bytes else None,
            "uuid": device.uuid,
            **link,
            "compute_capability": device.compute_capability,
            "driver": device.driver,
            "kernel_driver": device.kernel_driver,
            "display": device.display,
        }
    )


def _shares_memory(device: Device, ram_bytes: int) -> bool | None:
    if device.peer is not None:
        return None
    return device.shares_host_memory or (False if shares(device, ram_bytes) else None)


def _without_none(table: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if value is not None}


def _size(n_bytes: int) -> int | str:
    """Return a size in the largest unit that loses nothing: `"80 GiB"`, `"24268 MiB"`, else bytes."""
    if n_bytes and n_bytes % GIB == 0:
        return f"{n_bytes // GIB} GiB"
    if n_bytes and n_bytes % MIB == 0:
        return f"{n_bytes // MIB} MiB"
    return n_bytes
