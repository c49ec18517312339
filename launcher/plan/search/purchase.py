"""Find the smallest changes to the machine or the request that would do if nothing fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.machine.machine import Backend, Device, Machine
from launcher.machine.shared_memory import memory_bytes
from launcher.plan.amounts import HOST
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Choice
from launcher.plan.search.quant_search import QuantSearch
from launcher.plan.search.rejected import is_too_slow
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.units import GIB, format_bytes

_RAM_SIZES = tuple(size * GIB for size in (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048))
_MOST_CARDS = 8
# --max-ram is tried 0, 1, 3, 7 … 255 GiB above what is missing: the shortfall is that of the nearest quant,
# another may need more.
_MAX_RAM_STEPS = 9
_IDLE_BYTES = GIB // 2
_IDLE_SHARE = 50
"""What an idle card's driver keeps for itself: 512 MiB or 2 % (see `plan.memory.budget`)."""
_LEAST_CTX = 4096
_LEAST_LOADED = 0.6  # of a file's bytes: the rest may be MTP blocks, or tables that are read by rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A change to the machine or the request, and the plan that it makes possible."""

    what: str
    quant: str
    ctx_size: int
    decode_tps: float | None
    turn_seconds: float | None
    simulated: bool  # llama.cpp's allocator confirmed the plan

    def __str__(self) -> str:
        speed = "" if self.decode_tps is None else f", about {self.decode_tps:.1f} tokens/s"
        proof = "simulated" if self.simulated else "estimated"
        return f"{self.what}: {self.quant} at {self.ctx_size} tokens of context{speed} ({proof})"


def purchases(offers: Sequence[Offer], task: Task, choice: Choice) -> tuple[Purchase, ...]:
    """Return the changes that make the best and the smallest quant possible; none if there is a plan."""
    if choice.plan is not None or choice.shortfall is None:
        return ()
    bought: list[Purchase | None] = []
    smallest = min(offers, key=lambda offer: offer.model.size_bytes)
    for quant in dict.fromkeys((smallest.quant, offers[0].quant)):
        offer = next(offer for offer in offers if offer.quant == quant)
        if offer.fetch_bytes > _free_disk_bytes(task):
            only_disk = _first_that_fits(offer, iter([("", task)]))
            if only_disk is not None:
                bought.append(only_disk)
                continue  # nothing else is missing
        bought.append(_first_that_fits(offer, _own_limits(task, choice.shortfall), exactly=True))
        if offer is smallest:
            bought.append(_from_disk(offers, task, choice.shortfall))
        bought += [_first_that_fits(offer, changes) for changes in (_more_ram(task), _more_cards(task))]
    bought.append(_shorter_context(smallest, task, choice.shortfall))
    return tuple(purchase for purchase in bought if purchase is not None)


def _from_disk(offers: Sequence[Offer], task: Task, shortfall: Shortfall) -> Purchase | None:
    """Return what is possible with experts read from the disk as they are used, which costs only time."""
    if shortfall.where != HOST or task.workload.from_disk:
        return None
    plan = search(offers, replace(task, workload=replace(task.workload, from_disk=True))).plan
    return None if plan is None else _purchase("--from-disk", plan)


def describe_tried_changes(machine: Machine) -> str:
    ram = "" if _shares_host_memory(machine) else f"RAM up to {format_bytes(_RAM_SIZES[-1])}, "
    cards = f"up to {_MOST_CARDS} more cards, " if _cards(machine) else ""
    return f"{ram}{cards}a shorter context"


def _free_disk_bytes(task: Task) -> float:
    return task.machine.store.free_bytes if task.machine.store else float("inf")


def _first_that_fits(
    offer: Offer, changes: Iterator[tuple[str, Task]], *, exactly: bool = False
) -> Purchase | None:
    """Return the first change under which the offer fits; `exactly` simulates every one."""
    unsimulated = replace(offer, simulator=None)
    for what, task in changes:
        roomy = replace(task, machine=replace(task.machine, store=None))
        # Found by our figures, then confirmed by simulation.
        if not exactly and not _fits_by_figures(unsimulated, roomy):
            continue
        plan = search([offer], roomy).plan
        if plan is not None:
            missing = offer.fetch_bytes - _free_disk_bytes(task)
            disk = f"{format_bytes(int(missing))} more free on disk" if missing > 0 else ""
            return _purchase(" and ".join(filter(None, (what, disk))), plan)
    return None


def _fits_by_figures(offer: Offer, task: Task) -> bool:
    if memory_bytes(task.machine) < offer.model.size_bytes * _LEAST_LOADED:
        return False  # seen without a search
    found = QuantSearch.of(offer, 0, task).tried.candidates
    return any(not is_too_slow(candidate, task.workload) for candidate in found)


def _own_limits(task: Task, shortfall: Shortfall) -> Iterator[tuple[str, Task]]:
    """Yield the user's own limits loosened, which costs nothing: --max-ram, --gpus, --reserve."""
    limits = task.limits
    if limits.max_ram_bytes is not None:
        missing = shortfall.missing_bytes if shortfall.where == HOST else 0
        least = max((limits.max_ram_bytes + missing) // GIB, limits.max_ram_bytes // GIB + 1)
        for step in range(_MAX_RAM_STEPS):
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


def _shares_host_memory(machine: Machine) -> bool:
    return any(device.shares_host_memory for device in machine.devices)


def _more_ram(task: Task) -> Iterator[tuple[str, Task]]:
    machine = task.machine
    if _shares_host_memory(machine):
        return  # it cannot be added to
    if machine.ram_limit_bytes is not None:
        yield from _higher_limits(task, machine.ram_limit_bytes)
    for size in _RAM_SIZES:
        more = size - machine.ram_total_bytes
        if more < GIB:
            continue
        what = f"{format_bytes(size)} of RAM instead of {format_bytes(machine.ram_total_bytes)}"
        yield what, replace(task, machine=with_more_ram(machine, more))


def _higher_limits(task: Task, limit: int) -> Iterator[tuple[str, Task]]:
    """Yield the container's limit raised, up to the machine's own RAM: nothing has to be bought for that."""
    machine = task.machine
    others = machine.ram_total_bytes - (machine.host_available_bytes or machine.ram_total_bytes)
    for size in (limit * factor // 2 for factor in (3, 4, 6, 8, 12, 16, 24, 32, 64, 128)):
        if size > machine.ram_total_bytes - others:
            return
        what = f"a limit of {format_bytes(size)} instead of {format_bytes(limit)} for this container"
        more = replace(
            machine,
            ram_limit_bytes=size,
            ram_available_bytes=machine.ram_available_bytes + size - limit,
        )
        yield what, replace(task, machine=more)


def with_more_ram(machine: Machine, n_bytes: int) -> Machine:
    """Return the machine with so many bytes more of RAM, all of them free, on its nodes in equal parts."""
    part = n_bytes // max(len(machine.nodes), 1)
    nodes = tuple(
        replace(
            node,
            total_bytes=node.total_bytes + part,
            free_bytes=None if node.free_bytes is None else node.free_bytes + part,
        )
        for node in machine.nodes
    )
    return replace(
        machine,
        ram_total_bytes=machine.ram_total_bytes + n_bytes,
        ram_available_bytes=machine.ram_available_bytes + n_bytes,
        ram_limit_bytes=None,  # a container's limit would be raised, too
        nodes=nodes,
    )


def _cards(machine: Machine) -> list[Device]:
    return [
        device
        for device in machine.devices
        if not device.shares_host_memory and device.backend is not Backend.CPU
    ]


def _more_cards(task: Task) -> Iterator[tuple[str, Task]]:
    """Yield 1, 2, 3 … more cards like the largest that has memory of its own."""
    machine = task.machine
    cards = _cards(machine)
    if not cards:
        return
    largest = max(cards, key=lambda device: device.total_bytes)
    for count in range(1, _MOST_CARDS + 1):
        yield f"{count} more {largest.name}", replace(task, machine=with_more_cards(machine, largest, count))


def with_more_cards(machine: Machine, card: Device, count: int) -> Machine:
    """Return the machine with `count` more devices like `card`, all of them idle."""
    number = len(machine.devices)
    return replace(machine, devices=(*machine.devices, *(_another(card, number + i) for i in range(count))))


def _another(device: Device, number: int) -> Device:
    prefix = device.id.rstrip("0123456789")
    idle = max(_IDLE_BYTES, device.total_bytes // _IDLE_SHARE)
    free = None if device.free_bytes is None else device.total_bytes - idle
    return replace(device, id=f"{prefix}{number}", uuid=None, display=False, free_bytes=free)


def _shorter_context(offer: Offer, task: Task, shortfall: Shortfall) -> Purchase | None:
    size = shortfall.ctx_size // 2
    while size >= _LEAST_CTX:
        change = (f"a context of {size} tokens (-c {size})", _at(task, size))
        purchase = _first_that_fits(offer, iter([change]))
        if purchase is not None:
            return purchase
        size //= 2
    return None


def _at(task: Task, ctx_size: int) -> Task:
    return replace(task, workload=replace(task.workload, ctx_size=ctx_size))
