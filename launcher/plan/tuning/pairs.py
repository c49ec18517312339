"""Judge a setting by its last comparison with the plan, measured in turns. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.plan.forecast.noise import LEAST_CHANGE, Difference, compare_rates

PAIRS = 8  # every other one begins with the setting: a load that grows favours neither
SURE = 0.01  # of the rank test, which is made once
# A setting that is so many times as fast as when it was chosen met a plan that something else held up.
_MOST_ABOVE_CHOSEN = 2.0
_AGAIN = "nothing is changed; try again when the machine is less busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    is_faster: bool
    ratio: float  # the median of the pairs, setting over plan
    why: str


def judge_pairs(setting: Sequence[float], plan: Sequence[float], chosen: float) -> Verdict:
    """Say if a setting is faster beyond the noise; rates of one index are a pair, and there is one at least.

    `chosen` is how many times as fast it seemed when it was chosen.
    """
    ratios = [ours / theirs for ours, theirs in zip(setting, plan, strict=False)]
    ratio = statistics.median(ratios)
    if ratio <= 1 + LEAST_CHANGE or compare_rates(setting, plan, SURE) is not Difference.FASTER:
        why = "the best that was tried is not faster beyond the noise"
        return Verdict(is_faster=False, ratio=ratio, why=why)
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    if high - low >= ratio - 1:
        why = f"half of the pairs lie between {low:.2f} and {high:.2f} times as fast, wider than the gain"
        return Verdict(is_faster=False, ratio=ratio, why=f"{why}: {_AGAIN}")
    if ratio / chosen >= _MOST_ABOVE_CHOSEN:
        why = f"{ratio:.2f} times as fast in pairs, and {chosen:.2f} times when it was chosen"
        return Verdict(is_faster=False, ratio=ratio, why=f"{why}: {_AGAIN}")
    return Verdict(is_faster=True, ratio=ratio, why="faster beyond the noise")
