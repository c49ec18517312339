"""A setting wins only by pairs that agree: what is measured beside other work is kept out."""

from __future__ import annotations

import random

from launcher.plan.tuning.pairs import PAIRS, judge_pairs

STEADY = (1.0,) * PAIRS


def test_a_steady_gain_is_taken_at_its_median() -> None:
    verdict = judge_pairs((1.48, 1.5, 1.46, 1.52, 1.47, 1.49, 1.48, 1.51), STEADY, chosen=1.4)
    assert verdict.is_faster
    assert 1.47 < verdict.ratio < 1.5


def test_a_load_that_both_meet_is_not_their_difference() -> None:
    load = random.Random(3)
    slowed = [load.choice((1.0, 0.97, 0.93)) for _ in range(PAIRS)]
    verdict = judge_pairs([1.48 * rate for rate in slowed], slowed, chosen=1.5)
    assert verdict.is_faster
    assert round(verdict.ratio, 6) == 1.48


def test_a_plan_that_was_held_up_in_most_pairs_is_no_gain() -> None:
    # five of eight turns beside another program's: by medians of all it is 84 times as fast
    plan = (1.0, 0.017, 0.016, 1.0, 0.018, 0.017, 1.0, 0.016)
    verdict = judge_pairs((1.48,) * PAIRS, plan, chosen=80)
    assert not verdict.is_faster
    assert "wider than the gain" in verdict.why


def test_a_plan_that_was_held_up_in_all_pairs_is_no_gain() -> None:
    verdict = judge_pairs((1.48,) * PAIRS, (0.017,) * PAIRS, chosen=1.48)
    assert not verdict.is_faster
    assert verdict.why.startswith("87.06 times as fast in pairs, and 1.48 times when it was chosen")


def test_a_gain_that_seemed_larger_before_counts_as_the_pairs_have_it() -> None:
    verdict = judge_pairs((1.48,) * PAIRS, STEADY, chosen=87.0)
    assert verdict.is_faster
    assert verdict.ratio == 1.48


def test_a_gain_in_one_half_alone_is_none() -> None:
    half = PAIRS // 2
    assert not judge_pairs((1.0,) * half + (1.5,) * half, STEADY, chosen=1.5).is_faster


def test_too_few_pairs_are_none() -> None:
    for count in (1, 2, 3):
        assert not judge_pairs((2.0,) * count, (1.0,) * count, chosen=2.0).is_faster
