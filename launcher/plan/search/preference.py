"""Order the candidates by quality, by speed, or by both."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.workload import Prefer

# Under --prefer balanced a turn may take the longer of the two for the sake of quality.
_TIMES_FASTEST = 2.0
_COMFORT_SECONDS = 30.0
# Turn times within this ratio count as equal. The smaller ubatch is then taken: it leaves memory free.
_EQUAL_RATIO = 1.03


def order_by_preference(candidates: Sequence[PlanCandidate], prefer: Prefer) -> list[PlanCandidate]:
    """Return the quickest candidate of each quality, the preferred one first."""
    # A machine with more memory has the same candidates, none of them slower. Its choice is therefore never
    # both worse and slower.
    best = _best_of_each(candidates)
    if prefer is Prefer.QUALITY:
        return sorted(best, key=lambda candidate: candidate.rank)
    by_time = sorted(best, key=lambda candidate: (candidate.turn_seconds, candidate.rank))
    if prefer is Prefer.SPEED or not by_time:
        return by_time
    limit = limit_seconds(by_time, prefer)
    # `balanced`: by quality where a turn may well be within the limit, then by turn time. A forecast is not
    # so exact that a second more should cost a better quant.
    quick = sorted(
        (candidate for candidate in by_time if candidate.possible_seconds <= limit),
        key=lambda candidate: candidate.rank,
    )
    return quick + [candidate for candidate in by_time if candidate.possible_seconds > limit]


def limit_seconds(candidates: Sequence[PlanCandidate], prefer: Prefer) -> float:
    """Return how long a turn may take for the sake of quality."""
    fastest = min(candidate.turn_seconds for candidate in candidates)
    return max(fastest * _TIMES_FASTEST, _COMFORT_SECONDS) if prefer is Prefer.BALANCED else fastest


def describe_preference(prefer: Prefer) -> str:
    return {
        Prefer.QUALITY: "the best quality that fits (--prefer quality)",
        Prefer.SPEED: "the shortest turn (--prefer speed)",
        Prefer.BALANCED: (
            f"the best quality with a turn that may well be within {_COMFORT_SECONDS:.0f} s or "
            f"{_TIMES_FASTEST:g} times the fastest (--prefer balanced)"
        ),
    }[prefer]


def pareto_front(candidates: Sequence[PlanCandidate]) -> list[PlanCandidate]:
    """Return the candidates that no other beats in both quality and turn time, best first."""
    front: list[PlanCandidate] = []
    for candidate in sorted(
        _best_of_each(candidates), key=lambda candidate: (candidate.rank, candidate.turn_seconds)
    ):
        if not front or candidate.turn_seconds < front[-1].turn_seconds / _EQUAL_RATIO:
            front.append(candidate)
    return front


def _best_of_each(candidates: Sequence[PlanCandidate]) -> list[PlanCandidate]:
    # Of equally quick candidates the first is taken: the smallest ubatch.
    by_quality: dict[tuple[int, int], list[PlanCandidate]] = {}
    for candidate in candidates:
        by_quality.setdefault(candidate.rank, []).append(candidate)
    chosen = []
    for group in by_quality.values():
        fastest = min(candidate.turn_seconds for candidate in group)
        chosen.append(
            next(candidate for candidate in group if candidate.turn_seconds <= fastest * _EQUAL_RATIO)
        )
    return chosen
