"""Tell one machine from another by what decides its speed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.machine.machine import Machine
from launcher.system.json_object import JsonObject

_SAME = 0.02  # of the RAM: the kernel's part of it varies from boot to boot


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A machine as a measurement names it."""

    cpu: str | None
    ram_total_bytes: int
    devices: tuple[str, ...]  # names, in llama.cpp's order


def rig_of(machine: Machine) -> Rig:
    return Rig(
        cpu=machine.cpu.name,
        ram_total_bytes=machine.ram_total_bytes,
        devices=tuple(device.name for device in machine.devices),
    )


def parse_rig(given: JsonObject) -> Rig:
    """Read a rig as `asdict` has it. Raises Malformed."""
    return Rig(
        cpu=given.optional_text("cpu"),
        ram_total_bytes=given.whole("ram_total_bytes", 1),
        devices=given.texts("devices"),
    )


def is_same(one: Rig, other: Rig) -> bool:
    return (
        one.cpu == other.cpu
        and one.devices == other.devices
        and has_same_ram(one.ram_total_bytes, other.ram_total_bytes)
    )


def has_same_ram(one: int, other: int) -> bool:
    return abs(one - other) <= _SAME * max(one, other)
