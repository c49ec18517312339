"""Lay out all models on a fleet. What stands stays; what was lost is placed anew.

Every choice is by (spread, fit, name), so that the order of machines and models does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.plan.placement.group.room import Need, Room, Shelf, weight_of
from launcher.plan.placement.group.seats import Spread, find_group, find_machine
from launcher.plan.placement.group.values import (
    GroupPlan,
    Layout,
    MachineClass,
    Missing,
    Node,
    Placed,
    Single,
    Wanted,
)

NO_ROOM = "no machine has room"
NO_CLASS = "no machine here is of a kind that holds it"


def place(nodes: Sequence[Node], wanted: Sequence[Wanted], standing: Iterable[Placed] = ()) -> Layout:
    """Return where every replica runs, and which have no place.

    A first replica of every model comes before second ones, and a machine that holds a model before a split.
    Nothing is over a budget. What is `standing` stays, unless one of its machines is gone, drains or is full.
    """
    board = _Board(nodes)
    by_name = {one.model: one for one in wanted}
    for placed in sorted(standing, key=lambda each: (each.model, each.number)):
        one = by_name.get(placed.model)
        if one is not None and placed.number < one.replicas:
            board.keep(placed)
    missing = []
    options = {one.model: _options(one) for one in wanted}
    for one, number in _in_order(wanted):
        if (one.model, number) in board.kept:
            continue
        if not board.add(one, number, options[one.model]):
            is_known = any(board.has_class(plan) for plan in one.plans)
            missing.append(Missing(model=one.model, number=number, reason=NO_ROOM if is_known else NO_CLASS))
    return Layout(
        placed=tuple(board.kept[key] for key in sorted(board.kept)),
        missing=tuple(sorted(missing, key=lambda each: (each.model, each.number))),
    )


def _in_order(wanted: Sequence[Wanted]) -> list[tuple[Wanted, int]]:
    """Return replicas in the order they are placed: by priority, first ones first, the largest first."""
    weights = {one.model: max(map(_weight, one.plans), default=0) for one in wanted}
    return sorted(
        ((one, number) for one in wanted for number in range(one.replicas)),
        key=lambda each: (
            -each[0].priority,
            each[1] > 0,
            -weights[each[0].model],
            each[0].model,
            each[1],
        ),
    )


def _weight(plan: GroupPlan) -> int:
    return sum(map(weight_of, plan.shares))


@dataclass(slots=True)
class _Options:
    """A model's plans as they are looked for, the better ones first."""

    single: list[tuple[Single, Need]]
    groups: list[tuple[GroupPlan, tuple[Need, ...]]]


def _options(one: Wanted) -> _Options:
    return _Options(
        single=[(plan, Need(plan.share)) for plan in one.plans if isinstance(plan, Single)],
        groups=[(plan, tuple(map(Need, plan.shares))) for plan in one.plans if not isinstance(plan, Single)],
    )


class _Board:
    """The fleet as it fills."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.kept: dict[tuple[str, int], Placed] = {}
        self._rooms = {node.name: Room(node) for node in nodes if not node.draining}
        by_class: dict[MachineClass, list[Room]] = defaultdict(list)
        for room in self._rooms.values():
            by_class[room.node.machine_class].append(room)
        self._shelves = {kind: Shelf(rooms) for kind, rooms in by_class.items()}
        self._spreads: dict[str, Spread] = defaultdict(Spread)

    def has_class(self, plan: GroupPlan) -> bool:
        return all(share.machine_class in self._shelves for share in plan.shares)

    def keep(self, placed: Placed) -> None:
        """Keep a replica where it is, if all of it still fits there."""
        shares = placed.plan.shares
        rooms = [self._rooms.get(seat.machine) for seat in placed.seats]
        if len(set(placed.seats)) != len(shares) or (placed.model, placed.number) in self.kept:
            return
        if all(
            room is not None
            and room.node.machine_class == share.machine_class
            and room.holds(share, seat.devices)
            for room, seat, share in zip(rooms, placed.seats, shares, strict=True)
        ):
            self._settle(placed)

    def add(self, one: Wanted, number: int, options: _Options) -> bool:
        """Place one replica: whole on one machine, or else by the first plan for several that fits."""
        spread = self._spreads[one.model]
        found = find_machine([need for _, need in options.single], self._shelves, spread)
        if found is not None:
            need, seat = found
            plan = next(plan for plan, each in options.single if each is need)
            self._settle(Placed(model=one.model, number=number, plan=plan, seats=(seat,)))
            return True
        options.single.clear()  # machines only fill, so none ever will
        for group, needs in list(options.groups):
            seats = find_group(needs, self._shelves, spread)
            if seats is not None:
                self._settle(Placed(model=one.model, number=number, plan=group, seats=seats))
                return True
            options.groups.remove((group, needs))
        return False

    def _settle(self, placed: Placed) -> None:
        spread = self._spreads[placed.model]
        for seat, share in zip(placed.seats, placed.plan.shares, strict=True):
            room = self._rooms[seat.machine]
            self._shelves[room.node.machine_class].take(room, share, seat.devices)
            spread.on_machine[seat.machine] += 1
            spread.in_zone[room.node.zone] += 1
        self.kept[placed.model, placed.number] = placed
