"""Layers divided among devices: to the last byte of the ledger's own rows, and evenly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.plan.amounts import Amount, Basis
from launcher.plan.memory.budget import DeviceBudget, read_budgets
from launcher.plan.memory.ledger import Demand, build_ledger
from launcher.plan.memory.weights import OverriddenWeights
from launcher.plan.placement.division import Division, divide_layers
from launcher.plan.plan import Placement
from launcher.plan.workload import Adapter
from launcher.units import MIB
from tests.plan.round_numbers import WEIGHTS, demand, placed
from tests.plan.shapes import cards, machine

LARGE = read_budgets(machine(*cards(1000, 1000)))


def budgets(*n_bytes: int) -> list[DeviceBudget]:
    return [replace(budget, n_bytes=size) for budget, size in zip(LARGE.devices, n_bytes, strict=False)]


def counts(division: Division | None) -> list[tuple[str, int]] | None:
    if division is None:
        return None
    return [(share.budget.device.id, share.stop - share.first) for share in division.shares]


def used(needs: Demand, placement: Placement) -> list[int]:
    """Return what the ledger counts for each device."""
    return [row.used_bytes for row in build_ledger(needs, placement, LARGE)[:-1]]


BAND = Amount(n_bytes=3 * MIB, basis=Basis.ESTIMATED, band_bytes=2 * MIB)
PLAIN = demand()
NEEDS = [
    PLAIN,
    demand(adapters=(Adapter(name="a", amount=BAND), Adapter(name="b", amount=BAND, everywhere=True))),
    demand(
        replace(WEIGHTS, overridden=(OverriddenWeights(where="CUDA0", n_tensors=1, dense_bytes=9 * MIB),))
    ),
    demand(replace(WEIGHTS, tied_bytes=5 * MIB)),
    replace(PLAIN, caches=replace(PLAIN.caches, band=2)),
]


@pytest.mark.parametrize("needs", NEEDS)
def test_a_device_is_filled_to_the_last_byte_of_its_row(needs: Demand) -> None:
    for split, start in (((5,), 0), ((3,), 2)):
        (n_bytes,) = used(needs, placed(*split))
        found = divide_layers(needs, budgets(n_bytes), start=start, experts_on_host=False)
        assert counts(found) == [("CUDA0", sum(split))]
        assert divide_layers(needs, budgets(n_bytes - 1), start=start, experts_on_host=False) is None


@pytest.mark.parametrize("needs", NEEDS)
def test_two_devices_are_filled_to_the_last_byte_of_their_rows(needs: Demand) -> None:
    first, second = used(needs, placed(2, 3))
    assert counts(divide_layers(needs, budgets(first, second), start=0, experts_on_host=False)) == [
        ("CUDA0", 2), ("CUDA1", 3)
    ]  # fmt: skip
    for less in ((first - 1, second), (first, second - 1)):
        assert divide_layers(needs, budgets(*less), start=0, experts_on_host=False) is None


def test_experts_fill_what_dense_weights_leave() -> None:
    needs = demand()
    (n_bytes,) = used(needs, placed(5, experts=(0, 1, 2, 3)))
    # Blocks are of three tensors, of 9, 9 and 12 MiB; the last of all stays on the host.
    for more_mib, n_tensors in (
        (0, 0),
        (8, 0),
        (9, 1),
        (18, 2),
        (29, 2),
        (30, 3),
        (39, 4),
        (90, 9),
        (119, 11),
    ):
        found = divide_layers(needs, budgets(n_bytes + more_mib * MIB), start=0, experts_on_host=True)
        assert found is not None
        assert found.n_expert_tensors == n_tensors
        ((size, whole),) = found.shares[0].expert_counts
        assert (size, whole) == (30 * MIB, n_tensors // 3)
        assert found.shares[0].left_bytes == (more_mib - 30 * whole) * MIB
    assert divide_layers(needs, budgets(n_bytes - 1), start=0, experts_on_host=True) is None


def test_budgets_are_used_evenly() -> None:
    needs = demand()
    large = 10_000 * MIB
    both = divide_layers(needs, budgets(large, large), start=0, experts_on_host=False)
    assert counts(both) == [("CUDA0", 2), ("CUDA1", 3)]


def test_of_equal_devices_the_first_is_taken() -> None:
    found = divide_layers(demand(), budgets(2000 * MIB, 2000 * MIB), start=4, experts_on_host=False)
    assert counts(found) == [("CUDA0", 1)]


def test_more_experts_beat_a_more_even_use() -> None:
    even, full = Division(3, 0.5, ()), Division(4, 0.9, ())
    assert full.beats(even)
    assert not even.beats(full)
    assert Division(3, 0.4, ()).beats(even)
    assert not Division(3, 0.5, ()).beats(even)
    assert even.beats(None)
