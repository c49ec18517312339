"""Memory that deployments on this machine reserve: what a plan claims, and the machine without it."""

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
    """Return the GPU drivers' versions, None if none is known."""
    versions = sorted({device.driver for device in machine.devices if device.driver})
    return ", ".join(versions) or None


def without_reserved(machine: Machine, reserved: Mapping[str, int]) -> Machine:
    """Take the bytes off that other deployments have reserved and not yet used."""
    by_device = {
        device.id: reserved[key]
        for device in machine.devices
        if (key := device.uuid or device.id) in reserved
    }
    host = {HOST: reserved[RAM]} if RAM in reserved else {}
    return with_less_free(machine, {**by_device, **host}) if by_device or host else machine


def claim_rows(plan: Plan, machine: Machine) -> dict[str, int]:
    """Return the bytes that a plan reserves, by GPU UUID (or name) and RAM."""
    return by_memory({row.where: row.used_bytes for row in plan.ledger}, machine)


def by_memory(used: Mapping[str, int], machine: Machine) -> dict[str, int]:
    """Turn bytes by ledger row into bytes by GPU UUID (or name) and RAM."""
    names = {device.id: device.uuid or device.id for device in machine.devices}
    # devices in the host's memory are part of RAM
    in_ram = {HOST, RAM} | {device.id for device in machine.devices if device.lies_in_ram}
    rows: dict[str, int] = {}
    for where, n_bytes in used.items():
        key = RAM if where in in_ram else names.get(where, where)
        rows[key] = rows.get(key, 0) + n_bytes
    return rows


def claim(folder: Path, key: str, name: str, rows: Mapping[str, int], pid: int) -> None:
    """Reserve this memory for launcher process `pid`; its supervisor takes the claim over.

    If the claim cannot be written, go on without it.
    """
    me = identify(pid)
    if me is not None:
        with contextlib.suppress(OSError):
            claims.write_claim(folder, key, claims.Claim(name=name, process=me, rows=rows))
