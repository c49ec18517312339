"""The search: quants x KV types x ubatches x placements, analytically; the finalists simulated; the rejected explained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from launcher.errors import LauncherError
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import DISK
from launcher.plan.memory.companion_memory import NO_COMPANIONS, Companions
from launcher.plan.placement.arrange import Arrangement, PlanningCase, read_case
from launcher.plan.placement.settle import ContextChoice, check_context_limit, choose_contexts
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.candidates import PlanCandidate, QuantCandidates, candidate_of, fitting_candidates
from launcher.plan.search.changes import evaluate_changes
from launcher.plan.search.choice import Alternative, Choice
from launcher.plan.search.compose import compose
from launcher.plan.search.preference import describe_preference, limit_seconds, ordered, pareto
from launcher.plan.search.rejected import (
    alternative,
    refuted_alternative,
    refuted_shortfall,
    slow_reason,
    slow_shortfall,
    too_slow,
    why_not,
)
from launcher.plan.search.shortfall import explain_shortfall, shortfall_of
from launcher.plan.search.verify import MOST_SIMULATIONS, ModelSimulator, SimulationBudget, Verdict, verify
from launcher.plan.workload import Limits, Prefer, Workload
from launcher.units import format_bytes

_FINALISTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One quant that may be taken. `simulator` simulates it, None where nobody can; `fetch_bytes` is what would have
    to be downloaded; `notes` say where its headers are from, if not from the files themselves."""

    quant: str
    model: ModelFile
    simulator: ModelSimulator | None = None
    fetch_bytes: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the offers are planned for; `companions` are loaded beside each."""

    machine: Machine
    workload: Workload
    limits: Limits = Limits()
    default_ctx: int | None = None
    companions: Companions = NO_COMPANIONS


def search(offers: Iterable[Offer], task: Task) -> Choice:
    """The wanted plan among these quants, best quality first. Raises UsageError for wishes that
    contradict each other, the machine or the model, BadGguf for a model llama.cpp refuses."""
    found = [_Found.of(offer, rank, task) for rank, offer in enumerate(offers)]
    budget = SimulationBudget()
    candidates = [one for each in found for one in each.tried.candidates if each.fetchable(task)]
    near = _near_miss(found, budget, task, candidates)
    if near is not None:
        candidates.append(near[0])
    slow = [one for one in candidates if too_slow(one, task.workload)]
    wanted = ordered([one for one in candidates if one not in slow], task.workload.prefer)
    refuted: list[tuple[PlanCandidate, Verdict]] = []
    for one in wanted[:_FINALISTS]:
        offer = found[one.rank[0]].offer
        verdict = near[1] if near is not None and one is near[0] else None
        plan = _verified(budget, offer, one, verdict)
        if isinstance(plan, Verdict):
            refuted.append((one, plan))
            continue
        return Choice(
            plan=_with_reasons(plan, offer, one, wanted),
            shortfall=None,
            rejected=_rejected(found, one, wanted, task),
            options=tuple(alternative(other, "") for other in pareto(wanted)),
            changes=evaluate_changes(one),
            n_simulations=budget.asked,
        )
    if refuted:
        rejected = tuple(refuted_alternative(one, verdict) for one, verdict in refuted[:-1])
        short = refuted_shortfall(*refuted[-1])
        return Choice(plan=None, shortfall=short, rejected=rejected, n_simulations=budget.asked)
    return _nothing(found, slow, task, budget)


def plan_one(offer: Offer, task: Task) -> Plan | Shortfall:
    """The same for one quant, without what else there would be."""
    choice = search([offer], task)
    if choice.plan is not None:
        return choice.plan
    if choice.shortfall is None:
        raise LauncherError("neither a plan nor what is missing")
    return choice.shortfall


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    offer: Offer
    case: PlanningCase
    contexts: ContextChoice
    tried: QuantCandidates

    @classmethod
    def of(cls, offer: Offer, rank: int, task: Task) -> _Found:
        case = read_case(
            offer.model,
            offer.quant,
            task.machine,
            task.limits,
            task.companions,
            task.workload.overrides,
            task.workload.rope,
        )
        contexts = choose_contexts(case.architecture, task.workload, task.default_ctx)
        check_context_limit(case.model, case.architecture.n_ctx_train, contexts, task.workload)
        return cls(
            offer=offer,
            case=case,
            contexts=contexts,
            tried=fitting_candidates(case, task.workload, contexts, rank),
        )

    def fetchable(self, task: Task) -> bool:
        store = task.machine.store
        return store is None or self.offer.fetch_bytes <= store.free_bytes

    def shortfall(self, task: Task) -> Shortfall:
        """What is missing; asked only where nothing of this quant fits, or it cannot be fetched."""
        nearest = self.tried.nearest
        if nearest is not None:
            short = explain_shortfall(self.case, self.tried.nearest_workload, nearest)
            return (
                short if self.fetchable(task) else replace(short, reasons=(*short.reasons, self._disk(task)))
            )
        best = self.tried.candidates[0].arrangement
        free = task.machine.store.free_bytes if task.machine.store else 0
        return shortfall_of(
            self.case,
            best,
            where=DISK,
            missing_bytes=self.offer.fetch_bytes - free,
            reasons=(f"{self.offer.quant} fits in memory, and not on disk: {self._disk(task)}",),
        )

    def _disk(self, task: Task) -> str:
        free = task.machine.store.free_bytes if task.machine.store else 0
        return f"{format_bytes(self.offer.fetch_bytes)} to download, {format_bytes(free)} free on disk"


def _verified(
    budget: SimulationBudget, offer: Offer, one: PlanCandidate, verdict: Verdict | None
) -> Plan | Verdict:
    """The candidate's plan with the simulator's ledger; with our own where it cannot answer; the verdict where the
    simulator says that it does not fit. `verdict` is one that was given already."""
    if offer.simulator is None:
        return compose(one.case, one.workload, one.arrangement, one.ctx_reason)
    if verdict is None:
        verdict = verify(budget, offer.simulator, one.case, one.workload, one.arrangement)
    if verdict is None:
        cause = (
            budget.refusals[-1] if budget.refusals else f"{budget.asked} simulations were enough for one plan"
        )
        why = f"memory is estimated, not simulated: {cause}"
        plan = compose(one.case, one.workload, one.arrangement, one.ctx_reason)
        return replace(plan, reasons=(*plan.reasons, why))
    if not verdict.fits:
        return verdict
    return compose(one.case, one.workload, verdict.arrangement, one.ctx_reason, simulated=verdict.simulated)


def _near_miss(
    found: Sequence[_Found], budget: SimulationBudget, task: Task, candidates: Sequence[PlanCandidate]
) -> tuple[PlanCandidate, Verdict] | None:
    """The best quant that fits by the simulator and not by our figures, which lean high; looked for among those that
    are better than all that fit and lack no more than the doubt in our figures."""
    if candidates and task.workload.prefer is Prefer.SPEED:
        return None
    best = min((one.rank[0] for one in candidates), default=len(found))
    for rank, each in enumerate(found[:best]):
        nearest, simulator = each.tried.nearest, each.offer.simulator
        if nearest is None or simulator is None or not each.fetchable(task):
            continue
        if _lacks_more_than_doubt(nearest) or (candidates and budget.left <= MOST_SIMULATIONS // 2):
            continue
        workload = each.tried.nearest_workload
        verdict = verify(budget, simulator, each.case, workload, nearest)
        if verdict is not None and verdict.fits:
            cache_rank = int(workload.cache_type_k is not task.workload.cache_type_k)
            reason = each.contexts.reason_for(nearest.settled.parameters.ctx_size)
            one = candidate_of(each.case, workload, verdict.arrangement, (rank, cache_rank), reason)
            return one, verdict
    return None


def _lacks_more_than_doubt(arrangement: Arrangement) -> bool:
    doubt = sum(row.compute.n_bytes + row.compute.band_bytes for row in arrangement.ledger)
    return min(row.free_bytes for row in arrangement.ledger) < -doubt


def _nothing(
    found: Sequence[_Found], slow: Sequence[PlanCandidate], task: Task, budget: SimulationBudget
) -> Choice:
    """Why there is no plan: the quant that lacks least, or, where some fit, the speed that was asked for."""
    n_simulations = budget.asked
    if slow:
        fastest = max(slow, key=lambda one: one.decode_tps)
        short = slow_shortfall(fastest, task.workload)
        rejected = tuple(
            _too_slow_or_missing(each, slow, rank, task)
            for rank, each in enumerate(found)
            if rank != fastest.rank[0]
        )
        return Choice(plan=None, shortfall=short, rejected=rejected, n_simulations=n_simulations)
    shortfalls = [each.shortfall(task) for each in found]
    least = min(  # what fits in memory is nearer than what does not: files can be deleted
        range(len(found)),
        key=lambda index: (shortfalls[index].where != DISK, shortfalls[index].missing_bytes),
    )
    rejected = tuple(
        _missing(each, short)
        for index, (each, short) in enumerate(zip(found, shortfalls, strict=True))
        if index != least
    )
    return Choice(plan=None, shortfall=shortfalls[least], rejected=rejected, n_simulations=n_simulations)


def _too_slow_or_missing(each: _Found, slow: Sequence[PlanCandidate], rank: int, task: Task) -> Alternative:
    """The fastest way to run this quant, which is too slow, or what it lacks."""
    own = [one for one in slow if one.rank[0] == rank]
    if not own:
        return _missing(each, each.shortfall(task))
    best = max(own, key=lambda one: one.decode_tps)
    return alternative(best, slow_reason(best, task.workload))


def _with_reasons(plan: Plan, offer: Offer, one: PlanCandidate, wanted: Sequence[PlanCandidate]) -> Plan:
    others = [other for other in wanted if other.rank[0] != one.rank[0]]
    n_quants = len({other.rank[0] for other in wanted})
    why = f"{plan.quant} of {n_quants} quants that fit: {describe_preference(one.workload.prefer)}"
    reasons = [why] if others else []
    if plan.forecast is not None:
        speed, turn = plan.forecast.decode, plan.forecast.turn_seconds
        reasons.append(
            f"predicted {speed.low:.1f}-{speed.high:.1f} tokens/s and {turn.low:.0f}-{turn.high:.0f} s for a turn of "
            f"{plan.forecast.turn}; {'; '.join(plan.forecast.assumptions)}"
        )
    return replace(plan, reasons=(*offer.notes, *plan.reasons, *reasons))


def _rejected(
    found: Sequence[_Found], chosen: PlanCandidate, wanted: Sequence[PlanCandidate], task: Task
) -> tuple[Alternative, ...]:
    """Every other quant with its reason."""
    rejected = []
    shown, limit = pareto(wanted), limit_seconds(wanted, task.workload.prefer)
    for rank, each in enumerate(found):
        if rank == chosen.rank[0]:
            continue
        if not each.tried.candidates or not each.fetchable(task):
            rejected.append(_missing(each, each.shortfall(task)))
            continue
        best = next((one for one in (*shown, *wanted) if one.rank[0] == rank), None)
        if best is None:
            slowest = max(each.tried.candidates, key=lambda one: one.decode_tps)
            rejected.append(alternative(slowest, slow_reason(slowest, task.workload)))
            continue
        rejected.append(alternative(best, why_not(best, chosen, limit)))
    return tuple(rejected)


def _missing(each: _Found, short: Shortfall) -> Alternative:
    """A quant that does not fit."""
    parameters = (each.tried.nearest or each.tried.candidates[0].arrangement).settled.parameters
    return Alternative(
        quant=short.quant,
        size_bytes=short.size_bytes,
        cache_type=parameters.cache_type_k.value,
        ubatch_size=parameters.ubatch_size,
        ctx_size=short.ctx_size,
        fits=False,
        reason=short.reasons[0],
        flags=f"--quant {short.quant}",
        where=short.where,
        missing_bytes=short.missing_bytes,
    )
