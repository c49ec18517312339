"""Find the rows of a ledger that are over budget, and the stage of loading at which each fails. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.plan.amounts import Amount, LedgerRow

# In the order in which llama-server takes memory: load_tensors, the caches, sched_reserve, then all of these
# for a draft model and a projector (server_context_impl::load_model), and the prompt cache while it serves.
_STAGES = ("weights", "kv", "compute", "beside", "cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOverrun:
    where: str
    stage: str  # of loading, at which the budget is spent: one of _STAGES
    missing_bytes: int  # after the last stage


def find_overruns(own: Sequence[LedgerRow], ledger: Sequence[LedgerRow]) -> tuple[BudgetOverrun, ...]:
    """Return the rows over budget, earliest stage first. `own` are the rows of the model alone."""
    own_rows = {row.where: row for row in own}
    overruns = [
        BudgetOverrun(
            where=row.where, stage=_stage(row, own_rows.get(row.where)), missing_bytes=-row.free_bytes
        )
        for row in ledger
        if row.free_bytes < 0
    ]
    # Stable: within a stage devices keep their order, the host comes last.
    return tuple(sorted(overruns, key=lambda failure: _STAGES.index(failure.stage)))


def _stage(row: LedgerRow, own: LedgerRow | None) -> str:
    if own is None:
        return "beside"
    used = _most(row.overhead)
    for stage, amount in zip(_STAGES, (own.weights, own.kv, own.compute), strict=False):
        used += _most(amount)
        if used > row.budget_bytes:
            return stage
    return "beside" if row.used_bytes - _most(row.cache) > row.budget_bytes else "cache"


def _most(amount: Amount) -> int:
    return amount.n_bytes + amount.band_bytes
