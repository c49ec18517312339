"""Candidates of a chosen rank and speed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from launcher.plan.forecast.turn import Band
from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.search.quant_search import QuantSearch
from launcher.plan.search.task import Task
from launcher.plan.workload import Prefer, Workload
from tests.plan.search.searches import small
from tests.plan.shapes import machine


@cache
def _any() -> PlanCandidate:
    task = Task(machine=machine(), workload=Workload(ctx_size=4096))
    return QuantSearch.of(small()[0], 0, task).tried.candidates[0]


def exactly(value: float) -> Band:
    return Band(low=value, mid=value, high=value)


def candidate(
    quality: int,
    seconds: float,
    *,
    cache: int = 0,
    tps: float = 10,
    prefer: Prefer = Prefer.BALANCED,
    name: str = "",
) -> PlanCandidate:
    """Make a candidate; 0 is the best quality, `name` a reason to tell it by."""
    plain = _any()
    return replace(
        plain,
        rank=(quality, cache),
        workload=replace(plain.workload, prefer=prefer),
        ctx_reason=name,
        forecast=replace(plain.forecast, turn_seconds=exactly(seconds), decode=exactly(tps)),
    )
