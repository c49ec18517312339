"""Why other quants were not taken."""

from __future__ import annotations

import re

import pytest

from launcher.plan.amounts import HOST, SPEED
from launcher.plan.search.rejected import explain_rejection, is_too_slow
from launcher.plan.workload import Prefer, Workload
from launcher.units import GIB
from tests.plan.search.candidates_by_hand import candidate
from tests.plan.search.searches import EPYC, choose, kimi, planned
from tests.plan.shapes import device, machine


def test_every_other_quant_has_its_reason() -> None:
    choice = choose(kimi(), machine(device(0, 24 * GIB), ram_bytes=384 * GIB))
    plan = planned(choice)
    reasons = {other.quant: other for other in choice.rejected}
    assert plan.quant == "Q2"
    assert set(reasons) == {"INT4", "IQ1"}
    assert reasons["INT4"].fits is False
    assert reasons["INT4"].where == HOST
    assert (reasons["INT4"].missing_bytes or 0) > 100 * GIB
    assert reasons["IQ1"].fits is True
    assert "lower quality than Q2" in reasons["IQ1"].reason


def test_the_reason_against_a_better_quant_shows_that_it_is_slower_than_the_rule() -> None:
    choice = choose(kimi(), EPYC, Workload(ctx_size=32768, prefer=Prefer.SPEED))
    plan = planned(choice)
    turns = {(one.quant, one.cache_type): one.turn_seconds for one in choice.options}
    said = [one for one in choice.rejected if "the shortest is" in one.reason]
    assert said
    for one in said:
        turn, limit = (float(word) for word in re.findall(r"([\d.]+) s\b", one.reason))
        assert turn > limit
        assert one.turn_seconds == turns.get((one.quant, one.cache_type), one.turn_seconds)
    assert plan.quant not in {one.quant for one in said}


def test_a_speed_that_was_asked_for_excludes_the_slow() -> None:
    fast = choose(kimi(), EPYC, Workload(ctx_size=8192, prefer=Prefer.QUALITY, min_tps=10))
    assert planned(fast).quant != "INT4"
    assert any("--min-tps asks for 10" in other.reason for other in fast.rejected)
    never = choose(kimi(), EPYC, Workload(ctx_size=8192, min_tps=1000))
    assert never.plan is None
    assert never.shortfall is not None
    assert never.shortfall.where == SPEED
    assert never.shortfall.lack == "the fastest that fits is slower than asked"
    others = {other.quant: other for other in never.rejected}
    assert set(others) == {"INT4", "Q2", "IQ1"} - {never.shortfall.quant}
    assert all(other.fits and "--min-tps asks for 1000" in other.reason for other in others.values())


def test_what_is_too_slow_and_what_does_not_fit_are_told_apart() -> None:
    box = machine(device(0, 24 * GIB), ram_bytes=384 * GIB)
    choice = choose(kimi(), box, Workload(ctx_size=8192, min_tps=1000))
    assert choice.shortfall is not None
    assert choice.shortfall.quant == "IQ1"
    others = {other.quant: other for other in choice.rejected}
    assert (others["INT4"].fits, others["Q2"].fits) == (False, True)
    assert others["INT4"].where == HOST


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5, ", for a turn of 5.0 s instead of 9.0 s"),
        (8.97, ""),  # both are 9.0 s
        (9, ""),
        (12, ""),
    ],
)
def test_a_lower_quality_is_worth_a_word_where_it_is_quicker(seconds: float, words: str) -> None:
    chosen = candidate(0, 9)
    said = explain_rejection(candidate(1, seconds), chosen, 30)
    assert said == f"fits, of lower quality than {chosen.case.quant}{words}"


@pytest.mark.parametrize(
    ("prefer", "seconds", "limit", "words"),
    [
        (Prefer.BALANCED, 41, 40, "41.0 s (KV f16), the limit is 40.0 s"),
        (Prefer.BALANCED, 40.04, 40, "40.04 s (KV f16), the limit is 40.00 s"),
        (Prefer.SPEED, 41, 40, "41.0 s (KV f16), the shortest is 40.0 s"),
    ],
)
def test_a_better_quality_is_slower_than_the_limit(
    prefer: Prefer, seconds: float, limit: float, words: str
) -> None:
    said = explain_rejection(candidate(0, seconds, prefer=prefer), candidate(1, 9), limit)
    assert said == f"fits, and a turn takes {words}"
    same_quant = explain_rejection(candidate(0, seconds, cache=1), candidate(0, 9, cache=0), limit)
    assert same_quant.startswith("fits, of lower quality")


def test_too_slow_is_less_than_was_asked_for() -> None:
    assert is_too_slow(candidate(0, 1, tps=7.9), Workload(min_tps=8))
    assert not is_too_slow(candidate(0, 1, tps=8), Workload(min_tps=8))
    assert not is_too_slow(candidate(0, 1, tps=8), Workload())


def test_a_better_quant_is_not_refused_for_a_second_more_than_the_limit() -> None:
    """INT4 takes 2.1 times the fastest quant's turn, on a forecast that may be off by far more than that."""
    choice = choose(kimi(), EPYC, Workload(ctx_size=32768))
    plan = planned(choice)
    assert plan.forecast is not None
    fastest = min(one.turn_seconds for one in choice.options if one.turn_seconds is not None)
    assert plan.forecast.turn_seconds.mid > 2 * fastest > 30
    assert plan.quant == "INT4"
