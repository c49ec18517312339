"""An arrangement is a claim until llama.cpp's own allocator has confirmed it: ask, and place again with what it said.

Pure: the simulator is whoever answers `Oracle.simulate`. The formulas stay as what the first arrangement is made with,
and as the answer where no simulator can run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from launcher.errors import EngineFailed
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.memory.companion_memory import add_companions, size_companions
from launcher.plan.memory.ledger import mark_assumed_weights
from launcher.plan.memory.simulated import cpu_unsure, plan_question, simulated_ledger
from launcher.plan.oracle import Answer, Oracle, Refusal
from launcher.plan.placement.arrange import Arrangement, PlanningCase, arrange
from launcher.plan.plan import Placement
from launcher.plan.reasons import describe_companions, describe_host_tensors
from launcher.plan.search.compose import SimulationResult, compose
from launcher.plan.workload import Workload

MOST_SIMULATIONS = 8
_ROUNDS = 4
"""Simulations of one candidate: ours, then as its figures allow."""


@dataclass(slots=True)
class SimulationBudget:
    """Counts simulations: a plan may cost MOST_SIMULATIONS (DESIGN section 6), however many quants it is made of."""

    left: int = MOST_SIMULATIONS
    refusals: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return MOST_SIMULATIONS - self.left


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An arrangement with llama.cpp's figures; `fits` by those."""

    arrangement: Arrangement
    simulated: SimulationResult

    @property
    def fits(self) -> bool:
        return all(row.free_bytes >= 0 for row in self.simulated.ledger)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSimulator:
    """Who simulates one model: `path` is its first shard, hollow or real."""

    oracle: Oracle
    path: str


def verify(
    budget: SimulationBudget,
    simulator: ModelSimulator,
    case: PlanningCase,
    workload: Workload,
    first: Arrangement,
) -> Verdict | None:
    """The best arrangement near `first` that fits by simulation, or the last that does not.

    Our figures lean high, the simulator's do not: the difference is given back to the devices, the model placed
    again, and that simulated, until nothing more fits. None where the simulator cannot answer or has been
    asked often enough; `budget.refusals` then says why. Raises EngineFailed for a model llama.cpp refuses.
    """
    best: Verdict | None = None
    last: Verdict | None = None
    tried: list[Placement] = []
    candidate = first
    for _ in range(_ROUNDS):
        if candidate.placement in tried or budget.left <= 0:
            break
        tried.append(candidate.placement)
        verdict = _ask(budget, simulator, case, workload, candidate)
        if verdict is None:
            return best or last
        last = verdict
        if verdict.fits and (best is None or _on_devices(verdict) > _on_devices(best)):
            best = verdict
        elif verdict.fits:
            break
        candidate = arrange(case, candidate.settled, workload, _surplus(candidate, verdict))
    return best or last


def _ask(
    budget: SimulationBudget,
    simulator: ModelSimulator,
    case: PlanningCase,
    workload: Workload,
    arrangement: Arrangement,
) -> Verdict | None:
    budget.left -= 1
    plan = compose(case, workload, arrangement, "")
    devices = case.machine.devices
    question = replace(plan_question(plan, simulator.path, devices), n_draft=case.companions.n_draft)
    answer = simulator.oracle.simulate(question)
    if isinstance(answer, Refusal):
        if answer.model_refused:
            raise EngineFailed(
                f"llama.cpp would not load {case.model.model_id} {case.quant}: {answer.reason}",
                hint="launcher engine info shows the engine; choose another quant, or a newer --engine",
            )
        budget.refusals.append(answer.reason)
        return None
    own = mark_assumed_weights(case.model, simulated_ledger(arrangement.own, answer))
    held = size_companions(case.companions, question, case.machine, own)
    simulated = SimulationResult(
        ledger=add_companions(own, held.rows, case.all_budgets),
        engine=answer.engine,
        remarks=(
            f"memory simulated by {answer.engine}{_with_doubt(answer)}",
            *describe_host_tensors(answer.host_tensors),
            *describe_companions(held),
        ),
    )
    return Verdict(arrangement=arrangement, simulated=simulated)


def _surplus(arrangement: Arrangement, verdict: Verdict) -> dict[str, int]:
    """By how much our own figure for each row was too high: for weights, caches and compute, the parts that depend on
    the placement by laws both sides share."""
    ours = {row.where: _placed(row) for row in arrangement.ledger}
    theirs = {row.where: _placed(row) for row in verdict.simulated.ledger}
    return {where: ours.get(where, 0) - theirs.get(where, 0) for where in {**ours, **theirs}}


def _placed(row: LedgerRow) -> int:
    return sum(amount.n_bytes + amount.band_bytes for amount in (row.weights, row.kv, row.compute))


def _on_devices(verdict: Verdict) -> tuple[int, int]:
    """Layers on devices, then bytes of weights there."""
    rows = verdict.arrangement.own
    held = sum(row.weights.n_bytes for row in rows if row.where != HOST)
    return verdict.arrangement.placement.n_gpu_layers, held


def _with_doubt(answer: Answer) -> str:
    doubt = ", on another processor: what its instruction set decides is an estimate (±)"
    return doubt if cpu_unsure(answer) else ""
