"""Estimate in milliseconds if a quant fits and how fast it would be: for lists of many models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from launcher.plan.forecast.turn import Forecast
from launcher.plan.modes import CacheType
from launcher.plan.placement.settle import USUAL_UBATCH
from launcher.plan.search.candidates import PlanCandidate
from launcher.plan.search.quant_search import QuantSearch
from launcher.plan.search.task import Offer, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """A quant that fits by the planner's formulas; no simulator was asked."""

    quant: str
    size_bytes: int
    ctx_size: int
    forecast: Forecast


def glance(offer: Offer, task: Task) -> Glance | None:
    """Return how a quant would run, at llama-server's usual ubatch; None if it does not fit."""
    kinds = (CacheType.F16, CacheType.Q8_0) if not task.workload.embedding else (CacheType.F16,)
    for kind in kinds:
        workload = replace(task.workload, cache_type_k=kind, cache_type_v=kind, ubatch_size=USUAL_UBATCH)
        tried = QuantSearch.of(offer, 0, replace(task, workload=workload)).tried
        if tried.candidates:
            return _glance_at(offer, tried.candidates[0])
    return None


def _glance_at(offer: Offer, candidate: PlanCandidate) -> Glance:
    return Glance(
        quant=offer.quant,
        size_bytes=offer.model.size_bytes,
        ctx_size=candidate.arrangement.settled.parameters.ctx_size,
        forecast=candidate.forecast,
    )
