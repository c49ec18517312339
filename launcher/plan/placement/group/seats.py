"""Find the machines of one replica: where fewest of its model are, and of these the fullest that holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from launcher.plan.placement.group.room import Need, Room, Shelf
from launcher.plan.placement.group.values import MachineClass, Seat


@dataclass(frozen=True, slots=True)
class Spread:
    """Where replicas of one model are."""

    on_machine: Counter[str] = field(default_factory=Counter)
    in_zone: Counter[str] = field(default_factory=Counter)


Shelves = Mapping[MachineClass, Shelf]


def find_machine(needs: Sequence[Need], shelves: Shelves, spread: Spread) -> tuple[Need, Seat] | None:
    """Return a machine that holds one of the needs: one without the model, by the first need it holds."""
    known = [
        (need, shelves[need.share.machine_class]) for need in needs if need.share.machine_class in shelves
    ]
    for find in (_on_a_new_machine, _on_a_used_machine):
        for need, shelf in known:
            seat = find(need, shelf, spread)
            if seat is not None:
                return need, seat
    return None


def _on_a_new_machine(need: Need, shelf: Shelf, spread: Spread) -> Seat | None:
    """Return the fullest machine without this model, in a zone with the fewest of it."""
    in_zone, on_machine = spread.in_zone, spread.on_machine
    for _, zones in groupby(sorted(shelf.zones, key=in_zone.__getitem__), key=in_zone.__getitem__):
        best: tuple[int, str] | None = None
        seat = None
        for zone in zones:
            for room in shelf.from_fullest(zone, need):
                key = (room.left, room.node.name)
                if best is not None and key > best:
                    break
                if on_machine[room.node.name]:
                    continue
                devices = room.devices_for(need)
                if devices is not None:
                    best, seat = key, Seat(machine=room.node.name, devices=devices)
                    break
        if seat is not None:
            return seat
    return None


def _on_a_used_machine(need: Need, shelf: Shelf, spread: Spread) -> Seat | None:
    """Return a machine that has this model already: with the fewest of it, then as for a new one."""
    rooms = [room for zone in shelf.zones for room in shelf.from_fullest(zone, need)]
    on_machine, in_zone = spread.on_machine, spread.in_zone
    used = [room for room in rooms if on_machine[room.node.name]]
    used.sort(
        key=lambda room: (on_machine[room.node.name], in_zone[room.node.zone], room.left, room.node.name)
    )
    for room in used:
        devices = room.devices_for(need)
        if devices is not None:
            return Seat(machine=room.node.name, devices=devices)
    return None


_Candidate = tuple[tuple[int, str], Room, tuple[int, ...]]


def find_group(needs: Sequence[Need], shelves: Shelves, spread: Spread) -> tuple[Seat, ...] | None:
    """Return a seat for each need, all in one domain: where the model is least, then the fullest."""
    by_domain: dict[str, dict[int, list[_Candidate]]] = {}
    for number, need in enumerate(needs):
        shelf = shelves.get(need.share.machine_class)
        if shelf is None:
            return None
        for zone in shelf.zones:
            for room in shelf.from_fullest(zone, need):
                devices = room.devices_for(need)
                if devices is not None:
                    of_domain = by_domain.setdefault(room.node.domain, {})
                    of_domain.setdefault(number, []).append(((room.left, room.node.name), room, devices))
    best: tuple[tuple[int, int, str], tuple[Seat, ...]] | None = None
    for domain, candidates in by_domain.items():
        found = _match(len(needs), candidates)
        if found is None:
            continue
        rooms = [room for _, room, _ in found]
        here = sum(spread.in_zone[room.node.zone] + spread.on_machine[room.node.name] for room in rooms)
        key = (here, sum(room.left for room in rooms), domain)
        if best is None or key < best[0]:
            seats = tuple(Seat(machine=room.node.name, devices=devices) for _, room, devices in found)
            best = (key, seats)
    return None if best is None else best[1]


def _match(count: int, candidates: Mapping[int, list[_Candidate]]) -> list[_Candidate] | None:
    """Return a machine of its own for each of so many needs; None where there are too few.

    Augmenting paths (Kuhn), so that it finds machines wherever there are enough.
    """
    options = {number: sorted(found, key=lambda entry: entry[0]) for number, found in candidates.items()}
    owner: dict[str, int] = {}  # the need, by its number, that has a machine
    chosen: dict[int, _Candidate] = {}

    def seat(number: int, tried: set[str]) -> bool:
        # a machine that nobody has, before one whose need would have to go elsewhere
        for candidate in sorted(options.get(number, ()), key=lambda entry: entry[0][1] in owner):
            name = candidate[0][1]
            if name not in tried:
                tried.add(name)
                if name not in owner or seat(owner[name], tried):
                    owner[name], chosen[number] = number, candidate
                    return True
        return False

    if not all(seat(number, set()) for number in range(count)):
        return None
    return [chosen[number] for number in range(count)]
