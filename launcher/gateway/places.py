"""Say where a machine's models may lie: its devices by their keys, and RAM. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.machine.machine import Machine
from launcher.plan.amounts import RAM
from launcher.plan.memory.budget import read_budgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A device, or RAM, as it is shown."""

    name: str
    total_bytes: int


def places_of(machine: Machine) -> dict[str, Place]:
    devices = {
        device.uuid or device.id: Place(name=f"{device.id} {device.name}", total_bytes=device.total_bytes)
        for device in machine.devices
        if not device.lies_in_ram
    }
    return {RAM: Place(name="RAM", total_bytes=machine.ram_bytes), **devices}


def free_in(machine: Machine) -> dict[str, int]:
    """Return the bytes that a plan could use now, by place."""
    budgets = read_budgets(machine)
    devices = {
        each.device.uuid or each.device.id: each.n_bytes for each in budgets.devices if not each.in_ram
    }
    return {RAM: budgets.host_bytes, **devices}
