"""Quality, speed, and what lies between."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.plan.search.choice import Choice
from launcher.plan.search.preference import limit_seconds, order_by_preference, pareto_front
from launcher.plan.workload import Prefer, Workload
from launcher.units import MIB
from tests.plan.search.candidates_by_hand import candidate
from tests.plan.search.searches import EPYC, choose, kimi, planned, small
from tests.plan.shapes import cards, machine


def test_quality_speed_and_what_lies_between() -> None:
    chosen = {prefer: choose(kimi(), EPYC, Workload(ctx_size=32768, prefer=prefer)) for prefer in Prefer}
    assert planned(chosen[Prefer.QUALITY]).quant == "INT4"
    assert planned(chosen[Prefer.SPEED]).quant == "IQ1"
    assert planned(chosen[Prefer.BALANCED]).quant in {"INT4", "Q2"}
    turns = [planned(choice).forecast for choice in chosen.values()]
    assert all(turn is not None for turn in turns)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=3),
    st.integers(700, 3000),
    st.integers(0, 2),
    st.integers(1, 600),
    st.sampled_from(list(Prefer)),
)
# The card grows until it takes a few layers, and its context more RAM than there is beside them.
@example(free=[0], ram=1168, which=0, more=132, prefer=Prefer.BALANCED)
@example(free=[0], ram=1168, which=0, more=132, prefer=Prefer.QUALITY)
@example(free=[0], ram=1114, which=0, more=69, prefer=Prefer.BALANCED)
def test_more_memory_never_yields_a_worse_plan(
    free: list[int], ram: int, which: int, more: int, prefer: Prefer
) -> None:
    """Never both of lower quality and slower; by preference: never of lower quality, never slower."""
    workload = Workload(ctx_size=4096, prefer=prefer)
    grown = list(free)
    grown[which % len(grown)] += more
    assert_no_worse(
        choose(small(), machine(*cards(*free), ram_bytes=ram * MIB), workload),
        choose(small(), machine(*cards(*grown), ram_bytes=(ram + more) * MIB), workload),
        prefer,
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 900), max_size=2),
    st.integers(700, 1600),
    st.integers(0, 2),
    st.integers(0, 900),
    st.sampled_from(list(Prefer)),
)
@example(free=[], ram=1114, where=0, card=67, prefer=Prefer.QUALITY)
def test_a_further_card_never_yields_a_worse_plan(
    free: list[int], ram: int, where: int, card: int, prefer: Prefer
) -> None:
    """The same with a card more, wherever it stands, and no more RAM."""
    workload = Workload(ctx_size=4096, prefer=prefer)
    more = list(free)
    more.insert(where % (len(free) + 1), card)
    assert_no_worse(
        choose(small(), machine(*cards(*free), ram_bytes=ram * MIB), workload),
        choose(small(), machine(*cards(*more), ram_bytes=ram * MIB), workload),
        prefer,
    )


def assert_no_worse(choice_before: Choice, choice_after: Choice, prefer: Prefer) -> None:
    before, after = choice_before.plan, choice_after.plan
    if before is None:
        return
    assert after is not None
    order = [offer.quant for offer in small()]
    assert before.forecast is not None
    assert after.forecast is not None
    worse = order.index(after.quant) > order.index(before.quant)
    slower = after.forecast.turn_seconds.mid > before.forecast.turn_seconds.mid * 1.05
    if prefer is Prefer.QUALITY:
        assert not worse
    elif prefer is Prefer.SPEED:
        assert not slower
    else:
        assert not (worse and slower)


def order(prefer: Prefer, *seconds: float) -> list[int]:
    """Order candidates of quality 0, 1, 2 … whose turns take so long."""
    given_ones = [candidate(quality, turn) for quality, turn in enumerate(seconds)]
    return [each.rank[0] for each in order_by_preference(given_ones, prefer)]


@pytest.mark.parametrize(
    ("prefer", "seconds", "expected"),
    [
        (Prefer.QUALITY, (90, 30, 20), [0, 1, 2]),
        (Prefer.SPEED, (90, 30, 20), [2, 1, 0]),
        (Prefer.SPEED, (20, 20, 20), [0, 1, 2]),
        # Up to 30 s, or twice the fastest.
        (Prefer.BALANCED, (30, 5, 4), [0, 1, 2]),
        (Prefer.BALANCED, (30.1, 5, 4), [1, 2, 0]),
        (Prefer.BALANCED, (40, 30, 20), [0, 1, 2]),
        (Prefer.BALANCED, (40.1, 30, 20), [1, 2, 0]),
        (Prefer.BALANCED, (90, 80, 20), [2, 1, 0]),
        (Prefer.BALANCED, (), []),
    ],
)
def test_the_order_of_candidates(prefer: Prefer, seconds: tuple[float, ...], expected: list[int]) -> None:
    assert order(prefer, *seconds) == expected


def test_the_limit_of_a_turn() -> None:
    two = [candidate(0, 50), candidate(1, 20)]
    assert limit_seconds(two, Prefer.BALANCED) == 40
    assert limit_seconds([*two[1:], candidate(2, 4)], Prefer.BALANCED) == 30
    assert limit_seconds(two, Prefer.SPEED) == limit_seconds(two, Prefer.QUALITY) == 20


@pytest.mark.parametrize(("first", "taken"), [(100, "small"), (103, "small"), (103.1, "large")])
def test_of_equally_quick_ones_the_smaller_micro_batch_is_taken(first: float, taken: str) -> None:
    """Within 3 %."""
    group = [candidate(0, first, name="small"), candidate(0, 100, name="large")]
    for prefer in Prefer:
        assert [each.ctx_reason for each in order_by_preference(group, prefer)] == [taken]


def test_options_are_those_that_no_other_beats() -> None:
    times = {0: 51.5, 1: 50.0, 2: 49.9, 3: 60, 4: 40}
    front = pareto_front([candidate(quality, seconds) for quality, seconds in times.items()])
    assert [each.rank[0] for each in front] == [0, 2, 4]  # 3 % quicker is no more than equal
    assert [each.rank for each in pareto_front([candidate(0, 9, cache=1), candidate(0, 9.1)])] == [(0, 0)]
