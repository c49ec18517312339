"""Layouts of models on fleets: what must hold of all of them, and of a day with losses."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from launcher.plan.placement.group.place import NO_CLASS, NO_ROOM, place
from launcher.plan.placement.group.values import Layout, Node, Single, Split, Wanted
from launcher.units import GIB
from tests.plan.placement.group.fleet import (
    A100,
    H200,
    RTX_3090,
    RTX_4090,
    broken,
    catalogue,
    fleet,
    has_room,
    node,
    rooms_after,
    share,
    split,
)

SMALL = Single(share=share(RTX_3090, 1, 8 * GIB))


def where(layout: Layout) -> dict[tuple[str, int], tuple[str, ...]]:
    return {(each.model, each.number): tuple(seat.machine for seat in each.seats) for each in layout.placed}


def homeless_with_room(nodes: list[Node], wanted: list[Wanted], layout: Layout) -> list[str]:
    rooms = rooms_after(nodes, layout.placed)
    lost = {each.model for each in layout.missing}
    return [
        one.model for one in wanted if one.model in lost and any(has_room(plan, rooms) for plan in one.plans)
    ]


@pytest.mark.parametrize("seed", range(120))
def test_a_random_layout_holds_whatever_the_order(seed: int) -> None:
    rng = random.Random(seed)
    nodes, wanted = fleet(rng.randrange(1, 9), seed), catalogue(rng.randrange(1, 7), seed)

    layout = place(nodes, wanted)

    assert broken(nodes, wanted, layout) == []
    assert homeless_with_room(nodes, wanted, layout) == []
    assert place(rng.sample(nodes, len(nodes)), rng.sample(wanted, len(wanted))) == layout
    assert place(nodes, wanted, layout.placed) == layout


@pytest.mark.parametrize("seed", range(40))
def test_only_what_was_lost_moves(seed: int) -> None:
    rng = random.Random(seed)
    nodes, wanted = fleet(60, seed), catalogue(12, seed)
    layout = place(nodes, wanted)
    lost = {each.name for each in rng.sample(nodes, 6)}
    rest = [each for each in nodes if each.name not in lost]

    repaired = place(rest, wanted, rng.sample(layout.placed, len(layout.placed)))

    touched = {each for each in layout.placed if any(seat.machine in lost for seat in each.seats)}
    assert touched
    assert set(layout.placed) - set(repaired.placed) == touched
    assert broken(rest, wanted, repaired) == []


def test_a_day_of_arrivals_losses_and_drains() -> None:
    rng = random.Random(7)
    every, models = fleet(80, 3), catalogue(24, 4, replicas=(1, 1, 2, 3, 5))
    nodes, wanted = {each.name: each for each in every}, dict[str, Wanted]()
    layout = Layout(placed=(), missing=())
    seen: Counter[str] = Counter()
    for _ in range(24 * 12):  # an event every 5 minutes
        event = rng.choice(["arrives", "arrives", "goes", "scales", "is lost", "is back", "drains"])
        model, machine = rng.choice(models), rng.choice(every)
        if event == "arrives":
            wanted[model.model] = model
        elif event == "goes":
            wanted.pop(model.model, None)
        elif event == "scales":
            wanted[model.model] = replace(model, replicas=rng.randrange(8))
        elif event == "is lost":
            nodes.pop(machine.name, None)
        else:
            nodes[machine.name] = replace(machine, draining=event == "drains")
        here, asked = list(nodes.values()), list(wanted.values())
        before, layout = layout, place(here, asked, layout.placed)

        assert broken(here, asked, layout) == []
        assert homeless_with_room(here, asked, layout) == []
        moved = {(p.model, p.number): p for p in before.placed if p not in layout.placed}
        for (name, number), placed in moved.items():
            gone = name not in wanted or number >= wanted[name].replicas
            left = any(seat.machine not in nodes or nodes[seat.machine].draining for seat in placed.seats)
            assert gone or left
        seen.update("split" if len(placed.seats) > 1 else "whole" for placed in layout.placed)
        seen["moved"] += len(moved)
        seen["missing"] += len(layout.missing)
    assert min(seen["split"], seen["whole"], seen["moved"], seen["missing"]) > 0


def test_a_machine_that_holds_it_is_preferred_to_a_split() -> None:
    nodes = [node("a", RTX_4090), node("b", RTX_4090), node("h", H200)]
    whole, halves = Single(share=share(H200, 1, 100 * GIB)), split(RTX_4090, 2, 100 * GIB)
    one = Wanted(model="m", replicas=2, plans=(halves, whole))

    assert where(place(nodes, [one])) == {("m", 0): ("h",), ("m", 1): ("h",)}
    assert where(place(nodes[:2], [one])) == {("m", 0): ("a", "b")}


def test_first_replicas_come_before_second_ones() -> None:
    nodes = [node("a", RTX_3090), node("b", RTX_3090)]
    large = Single(share=share(RTX_3090, 1, 20 * GIB))
    wanted = [
        Wanted(model="large", replicas=2, plans=(large,)),
        Wanted(model="other", replicas=1, plans=(large,)),
    ]

    layout = place(nodes, wanted)

    assert sorted(where(layout)) == [("large", 0), ("other", 0)]
    assert [each.reason for each in layout.missing] == [NO_ROOM]


def test_replicas_spread_over_machines_and_zones() -> None:
    zones = "xxyy"
    nodes = [node(name, RTX_3090, zone=zone) for name, zone in zip("abcd", zones, strict=True)]

    layout = place(nodes, [Wanted(model="m", replicas=4, plans=(SMALL,))])

    machines = [seats[0] for _, seats in sorted(where(layout).items())]
    assert sorted(machines) == list("abcd")
    assert {machines[0] in "ab", machines[1] in "ab"} == {True, False}


def test_a_split_stays_in_one_domain() -> None:
    nodes = [node("a", A100, domain="x"), node("b", A100, domain="y"), node("c", A100, domain="y")]
    one = Wanted(model="m", replicas=1, plans=(split(A100, 2, 900 * GIB),))

    assert where(place(nodes, [one])) == {("m", 0): ("b", "c")}
    assert place(nodes[:2], [one]).missing[0].reason == NO_ROOM
    assert place([node("z", RTX_3090)], [one]).missing[0].reason == NO_CLASS


def test_a_head_finds_the_one_machine_with_room_for_it() -> None:
    # the fullest machine would do as a peer only, and comes first for either
    nodes = [replace(node("a", A100), ram_bytes=10 * GIB), node("b", A100)]
    peer = share(A100, 8, 300 * GIB, ram_bytes=8 * GIB)
    plan = Split(head=replace(peer, ram_bytes=64 * GIB), peers=(peer,))

    assert where(place(nodes, [Wanted(model="m", replicas=1, plans=(plan,))])) == {("m", 0): ("b", "a")}


def test_what_a_machine_no_longer_holds_goes_elsewhere() -> None:
    nodes = [node("a", RTX_3090), node("b", RTX_3090)]
    wanted = [Wanted(model="m", replicas=1, plans=(SMALL,))]
    layout = place(nodes[:1], wanted)
    nodes[0] = replace(nodes[0], device_bytes=(4 * GIB,))

    assert where(place(nodes, wanted, layout.placed)) == {("m", 0): ("b",)}


def test_a_part_goes_to_a_device_of_its_kind_only() -> None:
    mixed = replace(A100, devices=(A100.devices[0], RTX_3090.devices[0]))
    one = share(mixed, 2, 40 * GIB)
    swapped = replace(one, parts=one.parts[::-1])
    nodes = [node("a", mixed)]

    (placed,) = place(nodes, [Wanted(model="m", replicas=1, plans=(Single(share=swapped),))]).placed

    assert placed.seats[0].devices == (1, 0)
