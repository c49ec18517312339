"""Will exactly this command line fit: a configuration, a model and a machine in; a ledger and a verdict out.

The rows are the simulator's where it can run, else counted and estimated as a plan's are. Nothing is improved here: what
would fit instead is the planner's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.errors import EngineFailed
from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import Amount, Basis, LedgerRow
from launcher.plan.as_json import PLAN_SCHEMA, ledger_json
from launcher.plan.check.configuration import (
    Configuration,
    pool_size,
    question_of_configuration,
    refusal_of,
    settled_companions,
    used_devices,
)
from launcher.plan.check.explanation import Facts, explain_check
from launcher.plan.memory.assign import Assignment, assign
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.companion_memory import (
    NO_COMPANIONS,
    CompanionMemory,
    Companions,
    add_companions,
    size_companions,
)
from launcher.plan.memory.estimate import count_question, demand_of_question
from launcher.plan.memory.host_memory import plan_caches
from launcher.plan.memory.kv import state_bytes
from launcher.plan.memory.ledger import Demand
from launcher.plan.memory.simulated import simulated_ledger
from launcher.plan.memory.tensor_split import as_one_device, divide_assignment, divide_ledger, splits_tensors
from launcher.plan.oracle import Answer, Oracle, Question
from launcher.plan.reasons import format_ranges
from launcher.plan.rope import context_limit
from launcher.plan.workload import Workload

_STAGES = ("weights", "kv", "compute", "beside", "cache")
"""The order in which llama-server takes memory: load_tensors, the caches, sched_reserve, then all of that for a draft
model and a projector (server_context_impl::load_model), and the prompt cache while it serves."""
_PLENTY = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOverrun:
    """A row that is over its budget: at which stage of the start, and by how much in the end."""

    where: str
    stage: str
    missing_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The verdict. `failures` are in the order in which they would strike. `refusal` is why llama.cpp would not load
    this at all. `simulated_by` is None where the rows are estimates. `pool` is the KV pool in tokens, `slot_ctx_size`
    what one request can use of it."""

    model_id: str
    source: str
    size_bytes: int
    pool: int
    slot_ctx_size: int
    question: Question
    assignment: Assignment
    ledger: tuple[LedgerRow, ...]
    failures: tuple[BudgetOverrun, ...]
    refusal: str | None
    simulated_by: str | None
    reasons: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not self.failures and self.refusal is None


def check_configuration(
    configuration: Configuration,
    model: ModelFile,
    machine: Machine,
    oracle: Oracle,
    path: str,
    companions: Companions = NO_COMPANIONS,
) -> Check:
    """Examine one command line. `path` is the model's first shard, hollow or real; `companions` are loaded beside it.

    Raises UsageError for what contradicts the machine or the model.
    """
    architecture = read_architecture(model.metadata, model.tensors)
    pool = pool_size(configuration, architecture.n_ctx_train)
    devices = used_devices(configuration, machine.devices)
    names = tuple(tensor.name for tensor in model.tensors)
    question = replace(
        question_of_configuration(configuration, path, devices, pool, names), n_draft=companions.n_draft
    )
    counted = as_one_device(question) if splits_tensors(question) else question
    assignment = assign(counted, architecture, model.tensors)
    budgets = read_budgets(replace(machine, devices=devices))
    answer = oracle.simulate(question)
    demand = demand_of_question(question, architecture, model)
    alone = count_question(demand, counted, assignment, budgets, _server_caches(demand, configuration))
    if splits_tensors(question):
        alone = divide_ledger(alone, question, budgets)
        assignment = divide_assignment(assignment, question)
    if isinstance(answer, Answer):
        alone = simulated_ledger(alone, answer)
    refusal = refusal_of(configuration, devices)
    if refusal is None and not isinstance(answer, Answer) and answer.model_refused:
        refusal = answer.reason
    held, refused = _held(
        settled_companions(configuration, companions, machine.devices), question, machine, alone
    )
    others = (device for device in machine.devices if device not in devices)
    whole = replace(machine, devices=(*devices, *others))
    ledger = add_companions(alone, held.rows, read_budgets(whole)) if held.rows else alone
    failures = _failures(alone, ledger)
    slot = pool if question.kv_unified else pool // question.n_parallel
    return Check(
        model_id=model.model_id,
        source=model.source,
        size_bytes=model.size_bytes,
        pool=pool,
        slot_ctx_size=min(slot, context_limit(model.metadata, configuration.rope) or slot),
        question=question,
        assignment=assignment,
        ledger=ledger,
        failures=failures,
        refusal=refusal or refused,
        simulated_by=answer.engine if isinstance(answer, Answer) else None,
        reasons=explain_check(
            Facts(
                configuration=configuration,
                machine=machine,
                budgets=budgets,
                question=question,
                assignment=assignment,
                ledger=ledger,
                short=tuple(failure.where for failure in failures),
                answer=answer,
                tensor_names=names,
                beside=held.reasons,
            )
        ),
    )


def check_json(value: Check) -> dict[str, Any]:
    """The versioned document of `launcher check --json`, without what is offered instead."""
    question = value.question
    return {
        "schema": PLAN_SCHEMA,
        "fits": value.fits,
        "model": {"id": value.model_id, "source": value.source, "size_bytes": value.size_bytes},
        "context": {
            "tokens": value.pool,
            "slots": question.n_parallel,
            "shared": question.kv_unified,
            "per_slot": value.slot_ctx_size,
        },
        "settings": {
            "cache_type_k": question.cache_type_k.value,
            "cache_type_v": question.cache_type_v.value,
            "batch_size": question.batch_size,
            "ubatch_size": question.ubatch_size,
            "flash_attn": question.flash_attn.value,
            "load_mode": question.load_mode.value,
            "n_gpu_layers": question.n_gpu_layers,
            "split_mode": question.split_mode.value,
            "tensor_split": list(question.tensor_split) or None,
            "kv_offload": question.kv_offload,
            "op_offload": question.op_offload,
            "no_host": question.no_host,
            "swa_full": question.swa_full,
            "overrides": [{"pattern": rule.pattern, "where": rule.where} for rule in question.overrides],
        },
        "layers": [
            {
                "where": share.where,
                "layers": format_ranges(share.layers),
                "n_layers": len(share.layers),
                "expert_blocks": format_ranges(share.expert_blocks),
                "n_expert_blocks": len(share.expert_blocks),
                "expert_bytes": share.expert_bytes,
            }
            for share in value.assignment.shares
        ],
        **ledger_json(value.ledger),
        "simulated_by": value.simulated_by,
        "failures": [
            {"where": failure.where, "stage": failure.stage, "missing_bytes": failure.missing_bytes}
            for failure in value.failures
        ],
        "refusal": value.refusal,
        "reasons": list(value.reasons),
    }


def _server_caches(demand: Demand, configuration: Configuration) -> Amount:
    """The prompt cache at its limit, and as many checkpoints as a context has use for."""
    wanted = configuration.cache_ram_bytes or 0  # one without a limit is told about, not counted
    full = plan_caches(demand, Workload(cache_ram_bytes=wanted), _PLENTY)
    state = state_bytes(demand.architecture, demand.parameters) * demand.parameters.n_parallel
    kept = min(full.ctx_checkpoints, configuration.ctx_checkpoints) * state
    return Amount(n_bytes=full.cache_ram_bytes + kept, basis=Basis.EXACT)


def _held(
    companions: Companions, main: Question, machine: Machine, ledger: Sequence[LedgerRow]
) -> tuple[CompanionMemory, str | None]:
    """What companions hold, and why llama.cpp would not load one of them."""
    try:
        return size_companions(companions, main, machine, ledger), None
    except EngineFailed as error:
        return CompanionMemory(), error.message


def _failures(alone: Sequence[LedgerRow], ledger: Sequence[LedgerRow]) -> tuple[BudgetOverrun, ...]:
    """Rows over budget, the earliest stage first; devices in their order before the host. `alone` are the model's."""
    own = {row.where: row for row in alone}
    found = [
        BudgetOverrun(where=row.where, stage=_stage(row, own.get(row.where)), missing_bytes=-row.free_bytes)
        for row in ledger
        if row.free_bytes < 0
    ]
    return tuple(sorted(found, key=lambda failure: _STAGES.index(failure.stage)))


def _stage(row: LedgerRow, own: LedgerRow | None) -> str:
    """The first of the stages at which the budget is gone. `own` is what the model takes of the row, if anything."""
    if own is None:
        return "beside"
    held = _most(row.overhead)
    for stage, amount in zip(_STAGES, (own.weights, own.kv, own.compute), strict=False):
        held += _most(amount)
        if held > row.budget_bytes:
            return stage
    return "beside" if row.used_bytes - _most(row.cache) > row.budget_bytes else "cache"


def _most(amount: Amount) -> int:
    return amount.n_bytes + amount.band_bytes
