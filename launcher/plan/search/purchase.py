"""When nothing fits: the smallest changes to the machine that would do, each planned through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.machine.machine import Backend, Device, Machine
from launcher.plan.amounts import HOST
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import Offer, Task, search
from launcher.units import GIB, format_bytes

_RAM_SIZES = tuple(size * GIB for size in (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048))
"""What boards are filled with."""
_MOST_CARDS = 8
_STEPS = 9
"""Of --max-ram: 0, 1, 3, 7 … 255 GiB above what seems to be missing, rounded down; another quant than the nearest may need more."""


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
    """For the best quant and the smallest one: room on disk where nothing else is missing; else what the user's own limits
    would have to be, more RAM, more cards like the largest, a smaller context, and the room on disk that each of them
    needs besides. Nothing where the wanted plan is there."""
    if choice.plan is not None or choice.shortfall is None:
        return ()
    found: list[Purchase] = []
    smallest = min(offers, key=lambda offer: offer.model.size_bytes)
    for quant in dict.fromkeys((smallest.quant, offers[0].quant)):
        one = next(each for each in offers if each.quant == quant)
        only_disk = None if one.fetch_bytes <= _free(task) else _first_that_does(one, iter([("", task)]))
        ways = () if only_disk else (_more_ram(task), _more_cards(task))
        own = None if only_disk else _first_that_does(one, _own_limits(task, choice.shortfall), exactly=True)
        bought = [only_disk, own, *(_first_that_does(one, changes) for changes in ways)]
        found += [each for each in bought if each is not None]
    shorter = _shorter(smallest, task, choice.shortfall)
    return (*found, *(() if shorter is None else (shorter,)))


def describe_tried_changes(machine: Machine) -> str:
    """The changes that purchases are looked for among."""
    ram = "" if _shares(machine) else f"RAM up to {format_bytes(_RAM_SIZES[-1])}, "
    cards = f"up to {_MOST_CARDS} more cards, " if _own_memory(machine) else ""
    return f"{ram}{cards}a shorter context"


def _free(task: Task) -> float:
    return task.machine.store.free_bytes if task.machine.store else float("inf")


def _first_that_does(
    offer: Offer, changes: Iterator[tuple[str, Task]], *, exactly: bool = False
) -> Purchase | None:
    """The first of these changes under which the offer fits: found by our figures, confirmed by simulation. What the
    disk lacks is bought with it. `exactly`: simulated at every step, because our figures lean high."""
    blind = replace(offer, simulator=None)
    for what, task in changes:
        roomy = replace(task, machine=replace(task.machine, store=None))
        if not exactly and search([blind], roomy).plan is None:
            continue
        plan = search([offer], roomy).plan
        if plan is not None:
            lacks = offer.fetch_bytes - _free(task)
            disk = f"{format_bytes(int(lacks))} more free on disk" if lacks > 0 else ""
            return _purchase(" and ".join(filter(None, (what, disk))), plan)
    return None


def _own_limits(task: Task, shortfall: Shortfall) -> Iterator[tuple[str, Task]]:
    """The user's own limits, which cost nothing to change: --max-ram raised, then --gpus and --reserve left out."""
    limits = task.limits
    if limits.max_ram_bytes is not None:
        missing = shortfall.missing_bytes if shortfall.where == HOST else 0
        least = max((limits.max_ram_bytes + missing) // GIB, limits.max_ram_bytes // GIB + 1)
        for step in range(_STEPS):
            size = least + (1 << step) - 1
            if size * GIB > task.machine.ram_available_bytes:
                break
            yield f"--max-ram {size}G", replace(task, limits=replace(limits, max_ram_bytes=size * GIB))
    if limits.gpus is not None:
        yield "no --gpus", replace(task, limits=replace(limits, gpus=None))
    if limits.reserve:
        yield "no --reserve", replace(task, limits=replace(limits, reserve=()))


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


def _shares(machine: Machine) -> bool:
    return any(device.shares_host_memory for device in machine.devices)


def _more_ram(task: Task) -> Iterator[tuple[str, Task]]:
    """Sizes of memory above this machine's; none where the GPU's memory is the machine's (it cannot be added to)."""
    machine = task.machine
    if _shares(machine):
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
        what = f"{format_bytes(size)} of RAM instead of {format_bytes(machine.ram_total_bytes)}"
        yield what, replace(task, machine=changed)


def _own_memory(machine: Machine) -> list[Device]:
    return [
        device
        for device in machine.devices
        if not device.shares_host_memory and device.backend is not Backend.CPU
    ]


def _more_cards(task: Task) -> Iterator[tuple[str, Task]]:
    """More cards like the largest that has memory of its own."""
    machine = task.machine
    own = _own_memory(machine)
    if not own:
        return
    largest = max(own, key=lambda device: device.total_bytes)
    for count in range(1, _MOST_CARDS + 1):
        devices = (*machine.devices, *(_copy(largest, len(machine.devices) + i) for i in range(count)))
        yield f"{count} more {largest.name}", replace(task, machine=replace(machine, devices=devices))


def _copy(device: Device, number: int) -> Device:
    prefix = device.id.rstrip("0123456789")
    free = None if device.free_bytes is None else device.total_bytes - _driver_bytes(device)
    return replace(device, id=f"{prefix}{number}", uuid=None, display=False, free_bytes=free)


def _driver_bytes(device: Device) -> int:
    """What an idle card keeps for itself: 2 %, or 512 MiB (see `budget`)."""
    return max(GIB // 2, device.total_bytes // 50)


def _shorter(offer: Offer, task: Task, shortfall: Shortfall) -> Purchase | None:
    """Half the context, and half of that, of the smallest quant."""
    size = shortfall.ctx_size // 2
    while size >= 4096:
        bought = _first_that_does(offer, iter([(f"a context of {size} tokens (-c {size})", _at(task, size))]))
        if bought is not None:
            return bought
        size //= 2
    return None


def _at(task: Task, ctx_size: int) -> Task:
    return replace(task, workload=replace(task.workload, ctx_size=ctx_size))
