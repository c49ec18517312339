"""Reserve a plan's memory, and see the machine without what others reserve."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter

from launcher.commands.here import Here
from launcher.commands.probe import THIS_MACHINE, Look, MachineChoice, probe
from launcher.deployment import claims
from launcher.deployment.identity import identify
from launcher.deployment.reserved import Reserved, count_reserved
from launcher.engine.find import Engine
from launcher.machine.machine import Machine
from launcher.machine.shared_memory import counts_in_ram
from launcher.plan.amounts import HOST, RAM
from launcher.plan.plan import Plan
from launcher.plan.search.rescue import with_less_free
from launcher.progress import remark
from launcher.system.owned_files import user_name
from launcher.system.settings import IGNORE_CLAIMS, Settings
from launcher.units import format_bytes

_MOST_USERS_SAID = 3


def driver_of(machine: Machine) -> str | None:
    versions = sorted({device.driver for device in machine.devices if device.driver})
    return ", ".join(versions) or None


def read_reserved(here: Here, *, but_not: str | None = None) -> Reserved:
    """Return what other deployments here reserve; say whose it is where it is another user's."""
    reserved = count_reserved(_counted_claims(here.settings, but_not=but_not))
    theirs: dict[int, list[tuple[int, claims.Claim]]] = {}
    for claim, n_bytes in reserved.by_claim:
        if claim.owner != os.geteuid():
            theirs.setdefault(claim.owner, []).append((n_bytes, claim))
    # one sentence a user, however many claims they make
    for counted in sorted(theirs.values(), key=_counted_bytes, reverse=True)[:_MOST_USERS_SAID]:
        here.on_progress(remark("claims", _whose(counted)))
    return reserved


def _counted_claims(settings: Settings, *, but_not: str | None = None) -> tuple[claims.Claim, ...]:
    found = claims.read_claims(settings.claims_dir, but_not=but_not)
    ignored = settings.ignored_claims
    return tuple(claim for claim in found if not {str(claim.owner), user_name(claim.owner)} & {*ignored})


def _whose(counted: Sequence[tuple[int, claims.Claim]]) -> str:
    _, largest = max(counted, key=itemgetter(0))
    claimed = sum(size for _, claim in counted for size in claim.rows.values())
    return (
        f"{user_name(largest.owner)} claims {format_bytes(claimed)} of memory here for {largest.name}"
        f" (pid {largest.process.pid}): {format_bytes(_counted_bytes(counted))} are left to it;"
        f" {ignoring(largest)} before the command leaves nothing"
    )


def _counted_bytes(counted: Sequence[tuple[int, claims.Claim]]) -> int:
    return sum(n_bytes for n_bytes, _ in counted)


def describe_running(settings: Settings) -> str | None:
    """Name what runs here by how much memory it claims, the largest first; None if nothing does."""
    held = [(sum(claim.rows.values()), claim.name) for claim in _counted_claims(settings)]
    named = [f"{name} has {format_bytes(n_bytes)}" for n_bytes, name in sorted(held, reverse=True)]
    more = len(named) - _MOST_USERS_SAID
    return ", ".join(named[:_MOST_USERS_SAID]) + (f" and {more} more" if more > 0 else "") or None


def ignoring(claim: claims.Claim) -> str:
    """Return the variable, as it is typed before a command, that leaves the claim out."""
    return f"{IGNORE_CLAIMS}={user_name(claim.owner).removeprefix('user ')}"


def without_reserved(machine: Machine, reserved: Mapping[str, int]) -> Machine:
    """Take the bytes off that other deployments have reserved and not yet used."""
    by_device = {
        device.id: reserved[key]
        for device in machine.devices
        if (key := device.uuid or device.id) in reserved
    }
    host = {HOST: reserved[RAM]} if RAM in reserved else {}
    return with_less_free(machine, {**by_device, **host}) if by_device or host else machine


def unreserved_machine(
    here: Here, choice: MachineChoice, engine: Engine | None = None, look: Look | None = None
) -> Machine:
    """Return the machine of a choice; of this one, what is not reserved. Raises as `probe`."""
    machine = probe(here, choice, engine, look)
    return without_reserved(machine, read_reserved(here).rows) if choice == THIS_MACHINE else machine


def claim_rows(plan: Plan, machine: Machine) -> dict[str, int]:
    return by_memory({row.where: row.used_bytes for row in plan.ledger}, machine)


def by_memory(used: Mapping[str, int], machine: Machine) -> dict[str, int]:
    """Turn bytes by ledger row into bytes by GPU UUID (or name) and RAM."""
    names = {device.id: device.uuid or device.id for device in machine.devices}
    in_ram = {HOST, RAM} | {device.id for device in machine.devices if counts_in_ram(machine, device)}
    rows: dict[str, int] = {}
    for where, n_bytes in used.items():
        key = RAM if where in in_ram else names.get(where, where)
        rows[key] = rows.get(key, 0) + n_bytes
    return rows


def claim(
    here: Here, key: str, name: str, rows: Mapping[str, int], pid: int, *, loaded: bool = False
) -> None:
    """Reserve this memory for launcher process `pid`; its supervisor takes the claim over.

    If the claim cannot be written, say so and go on without it.
    """
    me = identify(pid)
    if me is None:
        return
    try:
        claims.write_claim(
            here.settings.claims_dir, key, claims.Claim(name=name, process=me, rows=rows, loaded=loaded)
        )
    except OSError as error:
        where = f"{error.filename or here.settings.claims_dir}: {error.strerror or error}"
        here.on_progress(remark("claims", f"other plans may count the memory of {name} as free: {where}"))
