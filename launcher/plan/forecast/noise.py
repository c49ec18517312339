"""Tell a difference of two measurements from noise. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from functools import cache

# Both must hold: less is not worth a word, and more may be chance.
LEAST_CHANGE = 0.03
LEAST_SURE = 0.05  # of the rank test: with 3 repetitions each, all of one beyond all of the other


class Difference(StrEnum):
    FASTER = "faster"
    SLOWER = "slower"
    NONE = "within the noise"


def compare_rates(now: Sequence[float], before: Sequence[float], chance: float = LEAST_SURE) -> Difference:
    """Say if rates now differ from those before: medians by 3 %, and a rank test by at most this chance.

    The test is Mann and Whitney's, exact and one-sided; equal rates count against a difference.
    """
    if not now or not before:
        return Difference.NONE
    ratio = statistics.median(now) / statistics.median(before)
    if ratio > 1 + LEAST_CHANGE and chance_of_order(before, now) <= chance:
        return Difference.FASTER
    if ratio < 1 / (1 + LEAST_CHANGE) and chance_of_order(now, before) <= chance:
        return Difference.SLOWER
    return Difference.NONE


def can_differ(n_now: int, n_before: int) -> bool:
    """Tell if so many repetitions can show a difference at all: three each are the least."""
    return math.comb(n_now + n_before, n_now) * LEAST_SURE >= 1


def chance_of_order(low: Sequence[float], high: Sequence[float]) -> float:
    """Return how likely `high` would stand so far above `low` if both were draws of the same."""
    beaten = sum(b > a for a in low for b in high)
    n_low, n_high = len(low), len(high)
    total = sum(_orders(n_low, n_high, wins) for wins in range(n_low * n_high + 1))
    as_far = sum(_orders(n_low, n_high, wins) for wins in range(beaten, n_low * n_high + 1))
    return as_far / total


@cache
def _orders(n_low: int, n_high: int, wins: int) -> int:
    """Count the orders of both in which pairs are won by the second so often."""
    if wins < 0 or n_low < 0 or n_high < 0:
        return 0
    if n_low == 0 or n_high == 0:
        return int(wins == 0)
    # The largest of all is the second's, and wins against all of the first; or it is the first's.
    return _orders(n_low, n_high - 1, wins - n_low) + _orders(n_low - 1, n_high, wins)
