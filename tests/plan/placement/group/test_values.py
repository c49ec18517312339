"""Classes of machines, whole bytes, and the ranks of a replica."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import UsageError
from launcher.plan.placement.group.place import place
from launcher.plan.placement.group.values import Rank, Wanted, class_of, ranks_of
from launcher.units import GIB
from tests.plan.placement.group.fleet import A100, RTX_3090, node, share, split
from tests.plan.shapes import cards, machine


def test_a_class_is_the_hardware_and_not_what_is_free() -> None:
    box = machine(*cards(20000, 20000))
    busy = replace(box, ram_available_bytes=1, devices=tuple(replace(d, free_bytes=1) for d in box.devices))

    assert class_of(box) == class_of(busy)
    assert class_of(box) != class_of(replace(box, devices=box.devices[:1]))
    assert class_of(box) != class_of(replace(box, ram_total_bytes=box.ram_total_bytes + 1))
    assert hash(class_of(box)) == hash(class_of(busy))


@pytest.mark.parametrize("n_bytes", [1.5, 1.0, -1, True, "1"])
def test_bytes_are_whole(n_bytes: object) -> None:
    with pytest.raises(UsageError, match="bytes"):
        share(RTX_3090, 1, 8 * GIB, ram_bytes=n_bytes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bytes"):
        replace(node("a", RTX_3090), device_bytes=(n_bytes,))


def test_a_machine_states_each_of_its_devices() -> None:
    with pytest.raises(UsageError, match="states 1 devices, its class has 8"):
        replace(node("a", A100), device_bytes=(1,))


def test_ranks_say_which_cards_take_what() -> None:
    nodes = [node("a", A100), node("b", A100)]
    plan = split(A100, 2, 800 * GIB)
    head = replace(plan.head, argv=("llama-server",))
    (placed,) = place(nodes, [Wanted(model="m", replicas=1, plans=(replace(plan, head=head),))]).placed

    first, second = ranks_of(placed, nodes, epoch=3)

    assert isinstance(first, Rank)
    assert (first.machine, second.machine) == ("a", "b")
    assert first.argv == ("llama-server",)
    assert first.epoch == second.epoch == 3
    assert first.gpu_bytes == tuple((f"GPU-a-{index}", 50 * GIB) for index in range(8))
    assert first.ram_bytes == 8 * GIB
