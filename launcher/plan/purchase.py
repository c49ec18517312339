"""When nothing fits: the smallest changes to the machine that would do, each planned through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.machine import Backend, Device, Machine
from launcher.plan.choice import Choice
from launcher.plan.plan import DISK, Plan
from launcher.plan.search import Offer, Task, search
from launcher.units import GIB, format_bytes

_RAM_SIZES = tuple(size * GIB for size in (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048))
"""What boards are filled with."""
_MOST_CARDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One change: `what` in words, the quant it makes possible, its predicted speed, and whether llama.cpp's allocator
    confirmed the plan."""

    what: str
    quant: str
    ctx_size: int
    decode_tps: float | None
    turn_seconds: float | None
    simulated: bool

    def __str__(self) -> str:
        speed = "" if self.decode_tps is None else f", about {self.decode_tps:.1f} tokens/s"
        proof = "simulated" if self.simulated else "estimated"
        return f"{self.what}: {self.quant} at {self.ctx_size} tokens of context{speed} ({proof})"


def purchases(offers: Sequence[Offer], task: Task, choice: Choice) -> tuple[Purchase, ...]:
    """For the best quant and the smallest one that do not fit: more RAM, more cards like the largest; a smaller context,
    room on disk. Nothing where the wanted plan is there."""
    if choice.plan is not None or choice.shortfall is None:
        return ()
    found: list[Purchase] = []
    if choice.shortfall.where == DISK:
        found.append(_disk(choice))
    smallest = min(offers, key=lambda offer: offer.model.size_bytes)
    for offer in dict.fromkeys((smallest.quant, offers[0].quant)):
        one = next(each for each in offers if each.quant == offer)
        for changes in (_more_ram(task.machine), _more_cards(task.machine)):
            bought = _first_that_does(one, task, changes)
            if bought is not None:
                found.append(bought)
    shorter = _shorter(smallest, task, choice)
    if shorter is not None:
        found.append(shorter)
    return tuple(found)


def _first_that_does(offer: Offer, task: Task, changes: Iterator[tuple[str, Machine]]) -> Purchase | None:
    """The smallest of these machines that holds the offer: found by our figures, confirmed by simulation."""
    blind = replace(offer, witness=None)
    for what, machine in changes:
        changed = replace(task, machine=machine)
        if search([blind], changed).plan is None:
            continue
        plan = search([offer], changed).plan
        if plan is not None:
            return _purchase(what, plan)
    return None


def _purchase(what: str, plan: Plan) -> Purchase:
    forecast = plan.forecast
    return Purchase(
        what=what,
        quant=plan.quant,
        ctx_size=plan.ctx_size,
        decode_tps=forecast.decode.mid if forecast else None,
        turn_seconds=forecast.turn_seconds.mid if forecast else None,
        simulated=plan.simulated_by is not None,
    )


def _more_ram(machine: Machine) -> Iterator[tuple[str, Machine]]:
    """Sizes of memory above this machine's; none where the GPU's memory is the machine's (it cannot be added to)."""
    if any(device.shares_host_memory for device in machine.devices):
        return
    for size in _RAM_SIZES:
        more = size - machine.ram_total_bytes
        if more < GIB:
            continue
        nodes = tuple(
            replace(
                node,
                total_bytes=node.total_bytes + more // len(machine.nodes),
                free_bytes=None if node.free_bytes is None else node.free_bytes + more // len(machine.nodes),
            )
            for node in machine.nodes
        )
        changed = replace(
            machine,
            ram_total_bytes=size,
            ram_available_bytes=machine.ram_available_bytes + more,
            ram_limit_bytes=None,
            nodes=nodes,
        )
        yield f"{format_bytes(size)} of RAM instead of {format_bytes(machine.ram_total_bytes)}", changed


def _more_cards(machine: Machine) -> Iterator[tuple[str, Machine]]:
    """More cards like the largest that has memory of its own."""
    own = [
        device
        for device in machine.devices
        if not device.shares_host_memory and device.backend is not Backend.CPU
    ]
    if not own:
        return
    largest = max(own, key=lambda device: device.total_bytes)
    for count in range(1, _MOST_CARDS + 1):
        devices = (*machine.devices, *(_copy(largest, len(machine.devices) + i) for i in range(count)))
        yield f"{count} more {largest.name}", replace(machine, devices=devices)


def _copy(device: Device, number: int) -> Device:
    prefix = device.id.rstrip("0123456789")
    free = None if device.free_bytes is None else device.total_bytes - _driver_bytes(device)
    return replace(device, id=f"{prefix}{number}", uuid=None, display=False, free_bytes=free)


def _driver_bytes(device: Device) -> int:
    """What an idle card keeps for itself: 2 %, or 512 MiB (see `budget`)."""
    return max(GIB // 2, device.total_bytes // 50)


def _shorter(offer: Offer, task: Task, choice: Choice) -> Purchase | None:
    """Half the context, and half of that, of the smallest quant."""
    if choice.shortfall is None:
        return None
    size = choice.shortfall.ctx_size // 2
    while size >= 4096:
        bought = _first_that_does(
            offer, _at(task, size), iter([(f"a context of {size} tokens (-c {size})", task.machine)])
        )
        if bought is not None:
            return bought
        size //= 2
    return None


def _at(task: Task, ctx_size: int) -> Task:
    return replace(task, workload=replace(task.workload, ctx_size=ctx_size))


def _disk(choice: Choice) -> Purchase:
    short = choice.shortfall
    missing = short.missing_bytes if short else 0
    return Purchase(
        what=f"{format_bytes(missing)} more free on disk",
        quant=short.quant if short else "",
        ctx_size=short.ctx_size if short else 0,
        decode_tps=None,
        turn_seconds=None,
        simulated=False,
    )
