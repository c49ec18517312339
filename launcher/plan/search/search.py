"""Search quants, KV cache types, ubatches and placements for the preferred plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from launcher.errors import LauncherError
from launcher.plan.amounts import DISK
from launcher.plan.forecast.decode import Stage
from launcher.plan.oracle import Refusal
from launcher.plan.placement.arrange import Arrangement
from launcher.plan.placement.pace import stages_of
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.candidates import PlanCandidate, candidate_of
from launcher.plan.search.changes import evaluate_changes
from launcher.plan.search.choice import Choice, Speculation
from launcher.plan.search.compose import compose
from launcher.plan.search.preference import describe_preference, order_by_preference, pareto_front
from launcher.plan.search.quant_search import QuantSearch
from launcher.plan.search.rejected import (
    as_alternative,
    as_refuted_alternative,
    is_too_slow,
    reject_others,
    reject_short,
    reject_slow,
    shortfall_by_simulation,
    shortfall_of_speed,
)
from launcher.plan.search.speculation import evaluate_mtp
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import MOST_SIMULATIONS, SimulationBudget, Verdict, verify
from launcher.plan.workload import Prefer

_FINALISTS = 3  # at most so many candidates are simulated


def search(offers: Iterable[Offer], task: Task) -> Choice:
    """Choose a plan among these quants, given best quality first.

    Raises UsageError for a request that contradicts itself, the machine or the model, BadGguf or EngineFailed
    for a model that llama.cpp refuses.
    """
    # Candidates are compared by our own figures; only the preferred ones are simulated.
    searched = [QuantSearch.of(offer, rank, task) for rank, offer in enumerate(offers)]
    budget = SimulationBudget()
    candidates = [
        candidate for quant in searched if quant.fetchable(task) for candidate in quant.tried.candidates
    ]
    near_miss = _near_miss(searched, budget, task, candidates)
    if near_miss is not None:
        candidates.append(near_miss[0])
    slow = [candidate for candidate in candidates if is_too_slow(candidate, task.workload)]
    preferred = order_by_preference(
        [candidate for candidate in candidates if candidate not in slow], task.workload.prefer
    )
    refuted: list[tuple[PlanCandidate, Verdict]] = []
    finalists = preferred[:_FINALISTS]
    for index, candidate in enumerate(finalists):
        offer = searched[candidate.rank[0]].offer
        verdict = near_miss[1] if near_miss is not None and candidate is near_miss[0] else None
        # each further finalist keeps a simulation: no plan is unverified because others took them all
        plan = _verified_plan(budget, offer, candidate, verdict, reserved=len(finalists) - index - 1)
        if isinstance(plan, Verdict):
            refuted.append((candidate, plan))
            continue
        speculation = evaluate_mtp(candidate)
        return Choice(
            plan=_with_reasons(plan, offer, candidate, preferred, speculation),
            shortfall=None,
            rejected=reject_others(searched, candidate, preferred, task),
            options=tuple(as_alternative(other, "") for other in pareto_front(preferred)),
            changes=evaluate_changes(candidate),
            speculation=speculation,
            n_simulations=budget.spent,
            stages=_stages(candidate),
        )
    if refuted:
        rejected = tuple(as_refuted_alternative(candidate, verdict) for candidate, verdict in refuted[:-1])
        shortfall = shortfall_by_simulation(*refuted[-1])
        return Choice(plan=None, shortfall=shortfall, rejected=rejected, n_simulations=budget.spent)
    return _without_plan(searched, slow, task, budget)


def plan_one(offer: Offer, task: Task) -> Plan | Shortfall:
    """Plan one quant: the outcome of `search` without the alternatives."""
    choice = search([offer], task)
    if choice.plan is not None:
        return choice.plan
    if choice.shortfall is None:
        raise LauncherError("neither a plan nor what is missing")
    return choice.shortfall


def _stages(candidate: PlanCandidate) -> tuple[Stage, ...]:
    chosen = candidate.arrangement
    return stages_of(chosen.demand, chosen.placement, candidate.case.machine, chosen.cores.processor)


def _verified_plan(
    budget: SimulationBudget,
    offer: Offer,
    candidate: PlanCandidate,
    verdict: Verdict | None,
    *,
    reserved: int,
) -> Plan | Verdict:
    """Return a candidate's plan with the simulated ledger, or the verdict if it does not fit.

    A `verdict` given is used. If the simulator cannot answer, the plan has our own ledger and says why.
    """
    if offer.simulator is None:
        return compose(candidate.case, candidate.workload, candidate.arrangement, candidate.ctx_reason)
    if verdict is None:
        case, workload, first = candidate.case, candidate.workload, candidate.arrangement
        verdict = verify(budget, offer.simulator, case, workload, first, reserved=reserved)
    if verdict is None:
        return _estimated_plan(candidate, budget.refusals[-1])
    if not verdict.fits:
        return verdict
    return compose(
        candidate.case,
        candidate.workload,
        verdict.arrangement,
        candidate.ctx_reason,
        simulated=verdict.simulated,
    )


def _estimated_plan(candidate: PlanCandidate, refusal: Refusal) -> Plan:
    """Return a candidate's plan with our own ledger, which says that nobody has checked it."""
    plan = compose(candidate.case, candidate.workload, candidate.arrangement, candidate.ctx_reason)
    why = f"memory is estimated, not simulated: {refusal.reason}"
    unverified = refusal.reason if refusal.is_unanswered else plan.unverified
    return replace(plan, reasons=(*plan.reasons, why), unverified=unverified)


def _near_miss(
    searched: Sequence[QuantSearch],
    budget: SimulationBudget,
    task: Task,
    candidates: Sequence[PlanCandidate],
) -> tuple[PlanCandidate, Verdict] | None:
    """Return the best quant that fits by simulation and not by our figures, which err on the high side."""
    if candidates and task.workload.prefer is Prefer.SPEED:
        return None  # a better quant is not what is asked for
    best = min((candidate.rank[0] for candidate in candidates), default=len(searched))
    for rank, quant in enumerate(searched[:best]):  # those better than all that fit
        nearest, simulator = quant.tried.nearest, quant.offer.simulator
        if nearest is None or simulator is None or not quant.fetchable(task):
            continue
        # Half of the simulations are left for the candidates that fit by our figures.
        if _lacks_more_than_doubt(nearest) or budget.left <= (MOST_SIMULATIONS // 2 if candidates else 0):
            continue
        workload = quant.tried.nearest_workload
        reserved = _FINALISTS if candidates else 0
        verdict = verify(budget, simulator, quant.case, workload, nearest, reserved=reserved)
        if verdict is not None and verdict.fits:
            cache_rank = int(workload.cache_type_k is not task.workload.cache_type_k)
            reason = quant.contexts.reason_for(nearest.settled.parameters.ctx_size)
            candidate = candidate_of(quant.case, workload, verdict.arrangement, (rank, cache_rank), reason)
            return candidate, verdict
    return None


def _lacks_more_than_doubt(arrangement: Arrangement) -> bool:
    # Weights and caches are counted, compute buffers are estimates.
    doubt = sum(row.compute.n_bytes + row.compute.band_bytes for row in arrangement.ledger)
    return min(row.free_bytes for row in arrangement.ledger) < -doubt


def _without_plan(
    searched: Sequence[QuantSearch], slow: Sequence[PlanCandidate], task: Task, budget: SimulationBudget
) -> Choice:
    """Return the shortfall of the quant that lacks least, or of the fastest if some are too slow."""
    n_simulations = budget.spent
    if slow:
        fastest = max(slow, key=lambda candidate: candidate.decode_tps)
        shortfall = shortfall_of_speed(fastest, task.workload)
        rejected = tuple(
            reject_slow(quant, slow, rank, task)
            for rank, quant in enumerate(searched)
            if rank != fastest.rank[0]
        )
        return Choice(plan=None, shortfall=shortfall, rejected=rejected, n_simulations=n_simulations)
    shortfalls = [quant.shortfall(task) for quant in searched]
    least = min(  # lacking only disk space comes first: files can be deleted
        range(len(searched)),
        key=lambda index: (shortfalls[index].where != DISK, shortfalls[index].missing_bytes),
    )
    rejected = tuple(
        reject_short(quant, shortfall)
        for index, (quant, shortfall) in enumerate(zip(searched, shortfalls, strict=True))
        if index != least
    )
    return Choice(plan=None, shortfall=shortfalls[least], rejected=rejected, n_simulations=n_simulations)


def _with_reasons(
    plan: Plan,
    offer: Offer,
    candidate: PlanCandidate,
    preferred: Sequence[PlanCandidate],
    speculation: Speculation | None,
) -> Plan:
    others = [other for other in preferred if other.rank[0] != candidate.rank[0]]
    n_quants = len({other.rank[0] for other in preferred})
    why = f"{plan.quant} of {n_quants} quants that fit: {describe_preference(candidate.workload.prefer)}"
    reasons = [why] if others else []
    if plan.forecast is not None:
        speed, turn = plan.forecast.decode, plan.forecast.turn_seconds
        reasons.append(
            f"predicted {speed.low:.1f}-{speed.high:.1f} tokens/s and {turn.low:.0f}-{turn.high:.0f} s "
            f"for a turn of {plan.forecast.turn}; {'; '.join(plan.forecast.assumptions)}"
        )
    if speculation is not None:
        reasons.append(speculation.text)
    return replace(plan, reasons=(*offer.notes, *plan.reasons, *reasons))
