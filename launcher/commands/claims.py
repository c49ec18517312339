"""What a plan is promised on this machine, and the machine with what others were promised taken off."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from launcher.deployment import claims
from launcher.deployment.identity import identify
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, RAM
from launcher.plan.plan import Plan
from launcher.plan.search.rescue import with_less_free


def driver_of(machine: Machine) -> str | None:
    """The drivers' versions, as far as they are known."""
    versions = sorted({device.driver for device in machine.devices if device.driver})
    return ", ".join(versions) or None


def less_promised(machine: Machine, promised: Mapping[str, int]) -> Machine:
    """The machine without the bytes that other deployments on this host were promised and have not taken."""
    by_device = {
        device.id: promised[key]
        for device in machine.devices
        if (key := device.uuid or device.id) in promised
    }
    host = {HOST: promised[RAM]} if RAM in promised else {}
    return with_less_free(machine, {**by_device, **host}) if by_device or host else machine


def claim_rows(plan: Plan, machine: Machine) -> dict[str, int]:
    """What a plan promises, by GPU UUID (or name) and RAM."""
    return by_memory({row.where: row.used_bytes for row in plan.ledger}, machine)


def by_memory(used: Mapping[str, int], machine: Machine) -> dict[str, int]:
    """Bytes by ledger row as bytes by GPU UUID (or name) and RAM; devices in the host's memory are part of RAM."""
    names = {device.id: device.uuid or device.id for device in machine.devices}
    in_ram = {HOST, RAM} | {device.id for device in machine.devices if device.lies_in_ram}
    rows: dict[str, int] = {}
    for where, n_bytes in used.items():
        key = RAM if where in in_ram else names.get(where, where)
        rows[key] = rows.get(key, 0) + n_bytes
    return rows


def claim(folder: Path, key: str, name: str, rows: Mapping[str, int], pid: int) -> None:
    """Promise this memory to the launcher `pid`, until its supervisor takes the promise over. A promise that cannot
    be written protects nobody, and hinders nobody."""
    me = identify(pid)
    if me is not None:
        with contextlib.suppress(OSError):
            claims.write_claim(folder, key, claims.Claim(name=name, process=me, rows=rows))
