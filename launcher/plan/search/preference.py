"""Which of the candidates that fit is wanted: by quality, by speed, or in between."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.workload import Prefer

PATIENCE = 2.0
COMFORT_SECONDS = 30.0
"""What quality may cost in turn time when both matter: twice the fastest, and anything up to half a minute."""
_SAME = 1.03
"""Turn times this close are one: the smaller ubatch then keeps memory free."""


def ordered(candidates: Sequence[PlanCandidate], prefer: Prefer) -> list[PlanCandidate]:
    """The candidates, the wanted one first, one for each quality.

    `quality`: by quality. `speed`: by turn time. `balanced`: by quality among those whose turn takes at most
    half a minute or twice as long as the fastest's, then the others by turn time. A machine with more memory has the same candidates,
    none of them slower, so what is wanted there is never both worse and slower.
    """
    best = _best_of_each(candidates)
    if prefer is Prefer.QUALITY:
        return sorted(best, key=lambda one: one.rank)
    by_time = sorted(best, key=lambda one: (one.turn_seconds, one.rank))
    if prefer is Prefer.SPEED or not by_time:
        return by_time
    limit = limit_seconds(by_time, prefer)
    quick = sorted((one for one in by_time if one.turn_seconds <= limit), key=lambda one: one.rank)
    return quick + [one for one in by_time if one.turn_seconds > limit]


def limit_seconds(candidates: Sequence[PlanCandidate], prefer: Prefer) -> float:
    """What a turn may take for the sake of quality."""
    fastest = min(one.turn_seconds for one in candidates)
    return max(fastest * PATIENCE, COMFORT_SECONDS) if prefer is Prefer.BALANCED else fastest


def describe_preference(prefer: Prefer) -> str:
    """What a choice by this preference means."""
    return {
        Prefer.QUALITY: "the best quality that fits (--prefer quality)",
        Prefer.SPEED: "the shortest turn (--prefer speed)",
        Prefer.BALANCED: (
            f"the best quality with a turn of at most {COMFORT_SECONDS:.0f} s or {PATIENCE:g} times the fastest "
            "(--prefer balanced)"
        ),
    }[prefer]


def pareto(candidates: Sequence[PlanCandidate]) -> list[PlanCandidate]:
    """Those that no other beats in both quality and turn time, best quality first."""
    front: list[PlanCandidate] = []
    for one in sorted(_best_of_each(candidates), key=lambda one: (one.rank, one.turn_seconds)):
        if not front or one.turn_seconds < front[-1].turn_seconds / _SAME:
            front.append(one)
    return front


def _best_of_each(candidates: Sequence[PlanCandidate]) -> list[PlanCandidate]:
    """For every quality the quickest; of those as quick, the first (the smallest ubatch)."""
    found: dict[tuple[int, int], list[PlanCandidate]] = {}
    for one in candidates:
        found.setdefault(one.rank, []).append(one)
    chosen = []
    for group in found.values():
        fastest = min(one.turn_seconds for one in group)
        chosen.append(next(one for one in group if one.turn_seconds <= fastest * _SAME))
    return chosen
