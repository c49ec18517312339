"""Quality, speed, and what lies between."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.plan.search.choice import Choice
from launcher.plan.workload import Prefer, Workload
from launcher.units import MIB
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
