"""Try the KV cache types and ubatch sizes that the request leaves open, for one quant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from launcher.errors import UsageError
from launcher.plan.forecast.turn import Forecast
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.placement.arrange import Arrangement, PlanningCase, arrange
from launcher.plan.placement.pace import forecast_placement
from launcher.plan.placement.settle import USUAL_UBATCH, ContextChoice, settle
from launcher.plan.workload import Workload

# llama-server's default first. A larger ubatch speeds up prompts where the host holds weights: they are sent
# to the device once per ubatch.
_UBATCHES = (USUAL_UBATCH, 1024, 2048, 4096)
# Best quality first. q8_0 halves the cache at no measurable loss of perplexity (tables in llama.cpp PR
# #7412); smaller types are used only on request.
_CACHES = (CacheType.F16, CacheType.Q8_0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCandidate:
    """An arrangement that fits by our own figures, with its predicted speed."""

    case: PlanningCase
    workload: Workload
    arrangement: Arrangement
    rank: tuple[int, int]  # by quality, 0 is best: the quant, then the cache type
    ctx_reason: str
    forecast: Forecast

    @property
    def turn_seconds(self) -> float:
        return self.forecast.turn_seconds.mid

    @property
    def possible_seconds(self) -> float:
        """A turn in the middle of the quicker half of its band, by ratios."""
        band = self.forecast.turn_seconds
        if self.arrangement.placement.paged_bytes:
            return band.mid  # of the same disk: how fast it is counts for every quant alike
        return math.sqrt(band.low * band.mid)

    @property
    def decode_tps(self) -> float:
        return self.forecast.decode.mid


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantCandidates:
    """All candidates of one quant at one context, best cache type and smallest ubatch first."""

    candidates: tuple[PlanCandidate, ...]
    nearest: Arrangement | None  # the attempt that lacks least, if there is no candidate
    nearest_workload: Workload


def fitting_candidates(
    case: PlanningCase, workload: Workload, contexts: ContextChoice, quant_rank: int
) -> QuantCandidates:
    """Return what fits of this quant, at the first context at which anything does."""
    nearest: Arrangement | None = None
    nearest_workload = workload
    for size in contexts.sizes:
        smallest = _smallest_variant(case, workload)
        least = _attempt(case, smallest, size)
        if nearest is None:
            nearest, nearest_workload = least, smallest
        if not least.fits:
            continue  # every other variant takes more memory
        candidates = []
        for cache_rank, variant in _variants(case, workload):
            arrangement = _attempt(case, variant, size)
            if not arrangement.fits:
                continue
            rank = quant_rank, cache_rank
            candidates.append(candidate_of(case, variant, arrangement, rank, contexts.reason_for(size)))
        if candidates:
            return QuantCandidates(candidates=tuple(candidates), nearest=None, nearest_workload=workload)
    return QuantCandidates(candidates=(), nearest=nearest, nearest_workload=nearest_workload)


def candidate_of(
    case: PlanningCase, workload: Workload, arrangement: Arrangement, rank: tuple[int, int], ctx_reason: str
) -> PlanCandidate:
    return PlanCandidate(
        case=case,
        workload=workload,
        arrangement=arrangement,
        rank=rank,
        ctx_reason=ctx_reason,
        forecast=forecast_placement(
            arrangement.demand, arrangement.placement, case.machine, arrangement.cores.processor
        ),
    )


def _attempt(case: PlanningCase, workload: Workload, size: int) -> Arrangement:
    return arrange(case, settle(case.architecture, workload, size), workload)


def _smallest_variant(case: PlanningCase, workload: Workload) -> Workload:
    variants = [variant for _, variant in _variants(case, workload)]
    least = variants[0]
    for variant in variants:
        if variant.ubatch_size == least.ubatch_size:  # the last of these has the smallest cache type
            least = variant
    return least


def _variants(case: PlanningCase, workload: Workload) -> Iterator[tuple[int, Workload]]:
    """Yield (rank of the cache type, workload), best cache type and smallest ubatch first."""
    free = (
        workload.cache_type_k is None
        and workload.cache_type_v is None
        and workload.flash_attn is not FlashAttention.OFF
    )
    caches: tuple[CacheType | None, ...] = (None,)
    if free:
        caches = tuple(kind for kind in _CACHES if _can_cache(case, kind))
    ubatches: tuple[int | None, ...] = (workload.ubatch_size,)
    if workload.ubatch_size is None:
        most = workload.batch_size or max(_UBATCHES)
        ubatches = tuple(size for size in _UBATCHES if size <= most) or (most,)
        if not case.budgets.devices:
            ubatches = ubatches[:1]  # where the host computes, a larger ubatch only takes memory
    for rank, kind in enumerate(caches):
        for ubatch in ubatches:
            changed = replace(workload, ubatch_size=ubatch)
            if kind is not None:
                changed = replace(changed, cache_type_k=kind, cache_type_v=kind)
            yield rank, changed


def _can_cache(case: PlanningCase, kind: CacheType) -> bool:
    """Tell if the model's head sizes suit the block size of the cache type."""
    if kind is CacheType.F16:
        return True
    try:
        settle(case.architecture, Workload(cache_type_k=kind, cache_type_v=kind), 4096)
    except UsageError:
        return False
    return True
