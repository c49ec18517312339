"""Why other quants were not taken."""

from __future__ import annotations

import re

from launcher.plan.amounts import HOST, SPEED
from launcher.plan.workload import Prefer, Workload
from launcher.units import GIB
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
    choice = choose(kimi(), EPYC, Workload(ctx_size=32768))
    plan = planned(choice)
    turns = {(one.quant, one.cache_type): one.turn_seconds for one in choice.options}
    said = [one for one in choice.rejected if "the limit is" in one.reason]
    assert said
    for one in said:
        turn, limit = (float(word) for word in re.findall(r"([\d.]+) s\b", one.reason))
        assert turn > limit
        assert one.turn_seconds == turns.get((one.quant, one.cache_type), one.turn_seconds)
    assert plan.quant not in {one.quant for one in said}


def test_a_speed_that_was_asked_for_excludes_the_slow() -> None:
    fast = choose(kimi(), EPYC, Workload(ctx_size=8192, prefer=Prefer.QUALITY, min_tps=8))
    assert planned(fast).quant != "INT4"
    assert any("--min-tps asks for 8" in other.reason for other in fast.rejected)
    never = choose(kimi(), EPYC, Workload(ctx_size=8192, min_tps=1000))
    assert never.plan is None
    assert never.shortfall is not None
    assert never.shortfall.where == SPEED
    assert never.shortfall.lack == "the fastest that fits is slower than asked"
