"""Keep what was measured of this machine, and use it while it is the same machine. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from launcher.machine.machine import Device, Link, Machine
from launcher.machine.rig import has_same_ram

_MOST_NAMES = 256  # types of ggml, devices
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
    core_rates: tuple[tuple[str, int], ...] = ()  # bytes/s of weights that a core multiplies, by type
    links: tuple[tuple[str, int], ...] = ()  # bytes/s of a copy to each GPU, by `link_key`
    node_rates: tuple[tuple[str, int], ...] = ()  # bytes/s that a NUMA node's cores read, by its number
    attention_rates: tuple[tuple[str, int], ...] = ()  # cached tokens of a head/s, by `attention_key`


_BY_NAME = ("core_rates", "links", "attention_rates", "node_rates")


def format_measured(measured: Measured) -> str:
    by_name = {key: dict(getattr(measured, key)) for key in _BY_NAME}
    document = {"schema": 1, **asdict(measured), **by_name}
    return json.dumps(document, indent=2) + "\n"


def parse_measured(text: str) -> Measured | None:
    """Return what `format_measured` wrote; None for anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("schema") != 1:
        return None
    date, cpu = document.get("date"), document.get("cpu")
    by_name = {key: rates for key in _BY_NAME if (rates := _rates(document.get(key, {}))) is not None}
    numbers = [document.get(key) for key in ("ram_total_bytes", "threads", "ram_rate", "disk_rate")]
    if not (isinstance(date, str) and len(date) == 10 and date.isprintable()):
        return None
    if not (cpu is None or isinstance(cpu, str)) or len(by_name) < len(_BY_NAME):
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
        **by_name,
    )


def _rates(given: object) -> tuple[tuple[str, int], ...] | None:
    if not isinstance(given, dict) or len(given) > _MOST_NAMES:
        return None
    if not all(name.isprintable() and type(rate) is int for name, rate in given.items()):
        return None
    return tuple(given.items()) if all(0 < rate < _MOST for rate in given.values()) else None


def link_key(device: Device) -> str:
    """Return a device's key in `Measured.links`: another card in its place is another device."""
    return f"{device.id} {device.name}"


def attention_key(cache_type: str, head_size: int, *, far: bool) -> str:
    """Return the key in `Measured.attention_rates` of a cache in the core's own cache, or `far`, in RAM."""
    return f"{cache_type} {head_size}{' far' if far else ''}"


def with_measured(machine: Machine, measured: Measured | None) -> Machine:
    """Return the machine with what was measured of it; unchanged if that was another one."""
    if measured is None or measured.ram_rate is None or measured.cpu != machine.cpu.name:
        return machine
    if not has_same_ram(measured.ram_total_bytes, machine.ram_total_bytes):
        return machine
    store = machine.store
    return replace(
        machine,
        store=None if store is None else replace(store, fault_rate=measured.disk_rate),
        ram_read_rate=measured.ram_rate,
        core_rates=measured.core_rates,
        node_rates=measured.node_rates,
        attention_rates=measured.attention_rates,
        devices=tuple(_with_link(device, dict(measured.links)) for device in machine.devices),
        notes=(*machine.notes, describe(measured)),
    )


def _with_link(device: Device, links: Mapping[str, int]) -> Device:
    rate = links.get(link_key(device))
    if rate is None:
        return device
    link = device.link or Link(pcie_generation=None, pcie_width=None)
    return replace(device, link=replace(link, rate=rate))


def describe(measured: Measured) -> str:
    ram = f"{(measured.ram_rate or 0) / 1e9:.1f} GB/s from RAM with {measured.threads} threads"
    disk = "" if measured.disk_rate is None else f", {measured.disk_rate / 1e6:.0f} MB/s at random from disk"
    speeds = f"{ram}{_nodes(measured)}{disk}{_cores(measured)}{_links(measured)}"
    return f"measured on {measured.date}: {speeds} (launcher probe --measure)"


def _links(measured: Measured) -> str:
    return "".join(f", {rate / 1e9:.1f} GB/s to {name}" for name, rate in measured.links)


def _nodes(measured: Measured) -> str:
    return "".join(f", {rate / 1e9:.1f} GB/s of node {node} alone" for node, rate in measured.node_rates)


def _cores(measured: Measured) -> str:
    rates = sorted((rate, name) for name, rate in measured.core_rates)
    if not rates:
        return ""
    (least, slow), (most, fast) = rates[0], rates[-1]
    return f", {least / 1e9:.1f} ({slow}) to {most / 1e9:.1f} GB/s ({fast}) of weights through a core"
