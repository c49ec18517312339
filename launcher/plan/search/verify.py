"""Check an arrangement with llama.cpp's own allocator, and place again with its figures. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from launcher.errors import EngineFailed
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.memory.companion_memory import add_companions, size_companions
from launcher.plan.memory.draft_memory import MainModel
from launcher.plan.memory.ledger import mark_assumed_weights, with_shared_memory
from launcher.plan.memory.simulated import cpu_unsure, plan_question, simulated_ledger
from launcher.plan.oracle import Answer, Oracle, Refusal
from launcher.plan.placement.arrange import Arrangement, PlanningCase, arrange
from launcher.plan.plan import Placement
from launcher.plan.reasons import describe_companions, describe_host_tensors
from launcher.plan.search.compose import SimulationResult, compose
from launcher.plan.workload import Workload

MOST_SIMULATIONS = 8  # for one plan, however many quants were searched for it
# what the simulator says, and llama_model_load (src/llama.cpp) in it
_UNKNOWN_ARCHITECTURE = re.compile(
    r"(?P<engine>llama\.cpp [^:\n]{1,60}): unknown model architecture: '(?P<name>[^'\n]{0,100})'"
)
_ROUNDS = 4  # at most so many simulations of one candidate


@dataclass(slots=True)
class SimulationBudget:
    """The simulations left to a search, and why the simulator did not answer."""

    left: int = MOST_SIMULATIONS
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def spent(self) -> int:
        return MOST_SIMULATIONS - self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    arrangement: Arrangement
    simulated: SimulationResult

    @property
    def fits(self) -> bool:
        return all(row.free_bytes >= 0 for row in self.simulated.ledger)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSimulator:
    oracle: Oracle
    path: str  # the first shard: the file itself, or one with a header only


def verify(
    budget: SimulationBudget,
    simulator: ModelSimulator,
    case: PlanningCase,
    workload: Workload,
    first: Arrangement,
    *,
    reserved: int = 0,  # simulations that are left to others
) -> Verdict | None:
    """Return the best arrangement near `first` that fits by simulation, or the last that does not.

    Returns None if the simulator cannot answer: `budget.refusals` says why. Raises EngineFailed for a model
    that llama.cpp refuses.
    """
    if budget.refusals:  # who did not answer once is not asked again: each time may cost seconds
        return None
    # Our figures err on the high side. What the simulator finds to be less is given back to the devices, the
    # model placed and simulated again, until nothing more fits.
    best: Verdict | None = None
    last: Verdict | None = None
    tried: list[Placement] = []
    candidate = first
    for _ in range(_ROUNDS):
        if candidate.placement in tried or (tried and budget.left <= reserved):
            break
        tried.append(candidate.placement)
        verdict = _simulate(budget, simulator, case, workload, candidate)
        if verdict is None:
            return best or last
        last = verdict
        if verdict.fits and (best is None or _on_devices(verdict) > _on_devices(best)):
            best = verdict
        elif verdict.fits:
            break
        candidate = arrange(case, candidate.settled, workload, _surplus(candidate, verdict))
    return best or last


def _simulate(
    budget: SimulationBudget,
    simulator: ModelSimulator,
    case: PlanningCase,
    workload: Workload,
    arrangement: Arrangement,
) -> Verdict | None:
    budget.left -= 1
    plan = compose(case, workload, arrangement, "")
    devices = case.machine.devices
    question = case.companions.of_main(plan_question(plan, simulator.path, devices))
    answer = simulator.oracle.simulate(question)
    if isinstance(answer, Refusal):
        if answer.model_refused:
            raise _would_not_load(f"{case.model.model_id} {case.quant}", answer.reason)
        budget.refusals.append(answer)
        return None
    own = simulated_ledger(arrangement.own, answer)
    own = with_shared_memory(mark_assumed_weights(case.model, own), case.budgets)
    main = MainModel(question=question, model=case.model, ledger=own, oracle=simulator.oracle)
    companion_memory = size_companions(case.companions, main, case.machine)
    simulated = SimulationResult(
        ledger=add_companions(own, companion_memory.rows, case.all_budgets),
        engine=answer.engine,
        unverified=companion_memory.unanswered,
        remarks=(
            f"memory simulated by {answer.engine}{_describe_doubt(answer)}",
            *describe_host_tensors(answer.host_tensors),
            *describe_companions(companion_memory),
        ),
    )
    return Verdict(arrangement=arrangement, simulated=simulated)


def _would_not_load(what: str, reason: str) -> EngineFailed:
    unknown = _UNKNOWN_ARCHITECTURE.search(reason)
    if unknown is None:
        return EngineFailed(
            f"llama.cpp would not load {what}: {reason}",
            hint="launcher engine info shows the engine; choose another quant, or a newer --engine",
        )
    return EngineFailed(
        f"{unknown['engine']} does not know the model architecture {unknown['name']}, which {what} has",
        hint="launcher engine update takes a newer one",
    )


def _surplus(arrangement: Arrangement, verdict: Verdict) -> dict[str, int]:
    """Return by how many bytes our figure for each row was too high."""
    ours = {row.where: _placed_bytes(row) for row in arrangement.ledger}
    theirs = {row.where: _placed_bytes(row) for row in verdict.simulated.ledger}
    return {where: ours.get(where, 0) - theirs.get(where, 0) for where in {**ours, **theirs}}


def _placed_bytes(row: LedgerRow) -> int:
    # Only what depends on the placement, by the same laws on both sides.
    return sum(amount.n_bytes + amount.band_bytes for amount in (row.weights, row.kv, row.compute))


def _on_devices(verdict: Verdict) -> tuple[int, int]:
    rows = verdict.arrangement.own
    weights = sum(row.weights.n_bytes for row in rows if row.where != HOST)
    return verdict.arrangement.placement.n_gpu_layers, weights


def _describe_doubt(answer: Answer) -> str:
    doubt = ", on another processor: what its instruction set decides is an estimate (±)"
    return doubt if cpu_unsure(answer) else ""
