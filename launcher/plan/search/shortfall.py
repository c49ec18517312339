"""Say what is missing where if nothing fits, and which changes would fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from launcher.errors import UsageError
from launcher.plan.modes import CacheType
from launcher.plan.placement.arrange import Arrangement, PlanningCase, arrange
from launcher.plan.placement.settle import USUAL_UBATCH, settle
from launcher.plan.plan import Shortfall
from launcher.plan.reasons import describe_budgets, describe_companions, describe_missing, describe_placement
from launcher.plan.workload import Workload

_LEAST_CTX = 4096
_MOST_HINTS = 3


def shortfall_of(
    case: PlanningCase,
    arrangement: Arrangement,
    *,
    where: str,
    missing_bytes: int,
    reasons: tuple[str, ...],
    hints: tuple[str, ...] = (),
) -> Shortfall:
    parameters = arrangement.settled.parameters
    return Shortfall(
        model_id=case.model.model_id,
        source=case.model.source,
        quant=case.quant,
        size_bytes=case.model.size_bytes,
        ctx_size=parameters.ctx_size,
        cache_types=parameters.cache_types,
        where=where,
        missing_bytes=missing_bytes,
        ledger=arrangement.ledger,
        reasons=reasons,
        hints=hints,
    )


def explain_shortfall(case: PlanningCase, workload: Workload, arrangement: Arrangement) -> Shortfall:
    """Return the shortfall of an arrangement that does not fit, with its worst row and hints."""
    worst = min(arrangement.ledger, key=lambda row: row.free_bytes)
    return shortfall_of(
        case,
        arrangement,
        where=worst.where,
        missing_bytes=-worst.free_bytes,
        reasons=(
            describe_missing(case.quant, worst),
            *describe_placement(
                arrangement.demand, arrangement.placement, case.budgets, arrangement.left_out
            ),
            *describe_budgets(case.machine, case.budgets),
            *describe_companions(arrangement.companions),
        ),
        hints=_fitting_changes(case, workload, arrangement.settled.parameters.ctx_size),
    )


def _fitting_changes(case: PlanningCase, workload: Workload, ctx_size: int) -> tuple[str, ...]:
    """Return llama-server's flags for at most three changes that fit, the mildest first."""
    fitting = []
    for flags, changed, size in _changes(workload, ctx_size, case.architecture.n_ctx_train):
        try:
            settled = settle(case.architecture, changed, size)
        except UsageError:
            continue  # llama-server would refuse it for this model
        if arrange(case, settled, changed).fits:
            fitting.append(flags)
            if len(fitting) == _MOST_HINTS:
                break
    return tuple(fitting)


def _changes(workload: Workload, ctx_size: int, n_ctx_train: int) -> Iterator[tuple[str, Workload, int]]:
    """Yield (flags, workload, context), the mildest change first."""
    if workload.cache_ram_bytes:
        yield "--cache-ram 0", replace(workload, cache_ram_bytes=0), ctx_size
    # One slot then gets the whole pool, which must not be longer than the model was trained for.
    if workload.n_parallel > 1 and ctx_size <= (n_ctx_train or ctx_size):
        yield "-np 1", replace(workload, n_parallel=1), ctx_size
    plain = {workload.cache_type_k, workload.cache_type_v} <= {None, CacheType.F16, CacheType.F32}
    small_cache = replace(workload, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0)
    if plain:
        yield "-ctk q8_0 -ctv q8_0", small_cache, ctx_size
    if (workload.ubatch_size or USUAL_UBATCH) > 256:
        yield "-ub 256", replace(workload, ubatch_size=256), ctx_size
    size = ctx_size // 2
    while size >= _LEAST_CTX:
        yield f"-c {size}", workload, size
        if plain:
            yield f"-c {size} -ctk q8_0 -ctv q8_0", small_cache, size
        size //= 2
