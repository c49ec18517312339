"""Keep what was measured of this machine, and use it while it is the same machine. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from launcher.machine.machine import Machine
from launcher.machine.rig import has_same_ram

_MOST = 10**14  # bytes/s, more than any host has


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Speeds of a machine, with the date."""

    date: str  # 2026-11-30
    cpu: str | None
    ram_total_bytes: int
    threads: int
    ram_rate: int | None  # bytes/s that the threads read together
    disk_rate: int | None  # bytes/s of random reads of the size of a page fault


def format_measured(measured: Measured) -> str:
    return json.dumps({"schema": 1, **asdict(measured)}, indent=2) + "\n"


def parse_measured(text: str) -> Measured | None:
    """Return what `format_measured` wrote; None for anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("schema") != 1:
        return None
    date, cpu = document.get("date"), document.get("cpu")
    numbers = [document.get(key) for key in ("ram_total_bytes", "threads", "ram_rate", "disk_rate")]
    if not (isinstance(date, str) and len(date) == 10 and date.isprintable()):
        return None
    if not (cpu is None or isinstance(cpu, str)):
        return None
    if not all(n is None or (type(n) is int and 0 < n < _MOST) for n in numbers) or None in numbers[:2]:
        return None
    total, threads, ram_rate, disk_rate = numbers
    return Measured(
        date=date,
        cpu=cpu,
        ram_total_bytes=total or 0,
        threads=threads or 0,
        ram_rate=ram_rate,
        disk_rate=disk_rate,
    )


def with_measured(machine: Machine, measured: Measured | None) -> Machine:
    """Return the machine with what was measured of it; unchanged if that was another one."""
    if measured is None or measured.ram_rate is None or measured.cpu != machine.cpu.name:
        return machine
    if not has_same_ram(measured.ram_total_bytes, machine.ram_total_bytes):
        return machine
    return replace(machine, ram_read_rate=measured.ram_rate, notes=(*machine.notes, describe(measured)))


def describe(measured: Measured) -> str:
    ram = f"{(measured.ram_rate or 0) / 1e9:.1f} GB/s from RAM with {measured.threads} threads"
    disk = "" if measured.disk_rate is None else f", {measured.disk_rate / 1e6:.0f} MB/s at random from disk"
    return f"measured on {measured.date}: {ram}{disk} (launcher probe --measure)"
