"""What is a difference, and what may be chance."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.forecast.noise import Difference, can_differ, chance_of_order, compare_rates

RATES = st.lists(st.floats(1, 100), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("now", "before", "found"),
    [
        ((12, 12.1, 12.2), (10, 10.1, 10.2), Difference.FASTER),
        ((10, 10.1, 10.2), (12, 12.1, 12.2), Difference.SLOWER),
        ((10.2, 10.3, 10.25), (10, 10.1, 10.15), Difference.NONE),  # all above, and not worth a word
        ((9, 12, 15), (8, 10, 13), Difference.NONE),  # may be chance
        ((20,), (10,), Difference.NONE),  # once is never sure
        ((), (10,), Difference.NONE),
        ((12, 12, 12), (12, 12, 12), Difference.NONE),
    ],
)
def test_a_difference_is_large_and_no_chance(
    now: tuple[float, ...], before: tuple[float, ...], found: Difference
) -> None:
    assert compare_rates(now, before) is found


@given(RATES, RATES)
def test_what_is_faster_is_slower_the_other_way_round(now: list[float], before: list[float]) -> None:
    opposite = {Difference.FASTER: Difference.SLOWER, Difference.SLOWER: Difference.FASTER}
    there, back = compare_rates(now, before), compare_rates(before, now)
    assert back is opposite.get(there, Difference.NONE)


def test_the_chance_is_the_part_of_all_orders() -> None:
    low, high = (1.0, 3.0), (2.0, 4.0, 5.0)
    wins = sum(b > a for a in low for b in high)
    orders = [set(places) for places in itertools.combinations(range(5), 2)]  # of the low ones
    as_far = sum(sum(b > a for a in places for b in set(range(5)) - places) >= wins for places in orders)
    assert chance_of_order(low, high) == pytest.approx(as_far / len(orders))
    assert chance_of_order((1, 2, 3), (4, 5, 6)) == pytest.approx(1 / 20)


def test_three_repetitions_each_are_the_least_that_can_differ() -> None:
    assert can_differ(3, 3)
    assert not can_differ(3, 2)
    assert not can_differ(1, 18)
    assert can_differ(1, 19)
