"""Check if exactly this command line fits. What would fit instead is the planner's to say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from launcher.errors import EngineFailed
from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.check.configuration import (
    Configuration,
    pool_size,
    question_of_configuration,
    refusal_of,
    settled_companions,
    used_devices,
)
from launcher.plan.check.cures import MOST_TRIED, cures
from launcher.plan.check.explanation import CURED, Facts, explain_check
from launcher.plan.check.fit import FitOutcome, FittedLine, LineOracle, fit_limits, fit_line
from launcher.plan.check.overruns import BudgetOverrun, find_overruns
from launcher.plan.check.paging import maps_experts
from launcher.plan.companions import NO_COMPANIONS, Companions
from launcher.plan.memory.assign import Assignment, assign, lacking_on_peers
from launcher.plan.memory.budget import Budgets, as_in_file, read_budgets
from launcher.plan.memory.companion_memory import CompanionMemory, add_companions, size_companions
from launcher.plan.memory.draft_memory import MainModel
from launcher.plan.memory.estimate import count_question, demand_of_question
from launcher.plan.memory.host_memory import ServerCaches, full_caches
from launcher.plan.memory.ledger import Demand, with_paged, with_shared_memory
from launcher.plan.memory.simulated import simulated_ledger
from launcher.plan.memory.tables import describe_tables, table_of, tables_of_question
from launcher.plan.memory.tensor_split import as_one_device, divide_assignment, divide_ledger, splits_tensors
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.plan.plan import Finding, find
from launcher.plan.reasons import describe_paged, describe_whole_texts
from launcher.plan.rope import context_limit

# ends a sentence on missing RAM
FROM_DISK = "launcher check --from-disk counts experts as read from the file as they are used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The verdict on a command line."""

    model_id: str
    source: str
    size_bytes: int
    pool: int  # tokens in the KV pool
    slot_ctx_size: int  # tokens that one request can use
    question: Question
    assignment: Assignment
    ledger: tuple[LedgerRow, ...]
    failures: tuple[BudgetOverrun, ...]  # in the order in which they would happen
    refusal: str | None  # why llama.cpp would not load this at all
    simulated_by: str | None  # None: the rows are estimates
    reasons: tuple[str, ...]
    fit: FittedLine  # what `--fit` has made of the line that was given
    fit_unknown: str | None = None  # or why that is not known, where the line does not fit as it stands
    caches: ServerCaches | None = None
    mapped_bytes: int = 0  # of the host's experts that are pages of the file, which the kernel can drop
    paged_bytes: int = 0  # of experts for which RAM has no room, and which are read from the file
    unverified: str | None = None  # why the simulator, which was asked, gave no answer for some of the rows

    @property
    def fits(self) -> bool:
        return not self.failures and self.refusal is None

    @property
    def finding(self) -> Finding:
        if not self.fits:
            may_fit = self.refusal is None and self.fit_unknown is not None
            return Finding.UNVERIFIED if may_fit else Finding.DOES_NOT_FIT
        return find(self.simulated_by, self.unverified)


def check_configuration(
    configuration: Configuration,
    model: ModelFile,
    machine: Machine,
    oracle: LineOracle,
    path: str,
    companions: Companions = NO_COMPANIONS,
    *,
    from_disk: bool = False,
) -> Check:
    """Check one command line, as `--fit` leaves it; `path` is the model's first shard, or has its header.

    A line that does not fit is told one flag that cures it, if one does. With `from_disk` experts may be
    read from the file as they are used. Raises UsageError for what contradicts the machine or the model.
    """
    verdict = _check_line(configuration, model, machine, oracle, path, companions)
    paged = _paged(verdict)
    if paged and from_disk:
        return paged
    if not verdict.failures or verdict.refusal is not None or verdict.reasons[0].endswith(CURED):
        return verdict
    has_table = table_of(model.tensors) is not None
    question = verdict.question
    tried = cures(configuration, question, verdict.assignment, verdict.ledger, has_table=has_table)
    for flags, changed in islice(tried, MOST_TRIED):
        if _check_line(changed, model, machine, oracle, path, companions).fits:
            first, *others = verdict.reasons
            return replace(verdict, reasons=(f"{first}; {flags}{CURED}", *others))
    first, *others = verdict.reasons
    return replace(verdict, reasons=(f"{first}; {FROM_DISK}", *others)) if paged else verdict


def _paged(verdict: Check) -> Check | None:
    """Return the verdict with what RAM has no room for read from the file; None where that cannot be."""
    missing, experts = -verdict.ledger[-1].free_bytes, verdict.assignment.share(HOST).expert_bytes
    only_ram = verdict.refusal is None and [failure.where for failure in verdict.failures] == [HOST]
    if not only_ram or missing > verdict.mapped_bytes:
        return None
    return replace(
        verdict,
        ledger=with_paged(verdict.ledger, missing),
        failures=(),
        paged_bytes=missing,
        reasons=(describe_paged(missing, experts), *verdict.reasons[1:]),
    )


def _check_line(
    configuration: Configuration,
    model: ModelFile,
    machine: Machine,
    oracle: LineOracle,
    path: str,
    companions: Companions,
) -> Check:
    companions = settled_companions(configuration, companions, machine.devices)
    case = _read_case(configuration, model, machine, oracle, path, companions)
    own, assignment, caches = _count_model(case)
    main = MainModel(question=case.question, model=model, ledger=own, oracle=oracle)
    companion_memory, companion_refusal = _size_companions(companions, main, machine)
    ledger = _with_companions(case, own, companion_memory)
    caches, ledger = _at_work(case, caches, ledger)
    failures = find_overruns(own, ledger)
    facts = Facts(
        configuration=case.configuration,
        fit=case.fit,
        machine=machine,
        budgets=case.budgets,
        question=case.question,
        assignment=assignment,
        ledger=ledger,
        overrun_places=tuple(failure.where for failure in failures),
        answer=case.answer,
        tensor_names=case.tensor_names,
        table_reasons=_describe_tables(case),
        text_reasons=describe_whole_texts(model.metadata, case.question),
        companion_reasons=companion_memory.reasons,
        caches=caches,
    )
    refusal = _refusal(case) or companion_refusal or lacking_on_peers(case.question, assignment)
    verdict = _verdict(model, facts, failures, refusal)
    experts = assignment.share(HOST).expert_bytes
    return replace(
        verdict,
        mapped_bytes=experts if maps_experts(case.question, assignment, case.budgets, case.answer) else 0,
        unverified=verdict.unverified or companion_memory.unanswered,
    )


def _unknown_fit(facts: Facts) -> str | None:
    """Return why it is not known what `--fit` makes of a line that does not fit as it stands."""
    # Beside a device, fit does not look at the host's memory.
    helps = set(facts.overrun_places) - ({HOST} if facts.question.devices else set())
    return facts.fit.why if helps and facts.fit.outcome is FitOutcome.UNKNOWN else None


def _verdict(
    model: ModelFile, facts: Facts, failures: tuple[BudgetOverrun, ...], refusal: str | None
) -> Check:
    question, answer = facts.question, facts.answer
    silent = isinstance(answer, Refusal) and answer.is_unanswered
    slot = question.ctx_size if question.kv_unified else question.ctx_size // question.n_parallel
    return Check(
        model_id=model.model_id,
        source=model.source,
        size_bytes=model.size_bytes,
        pool=question.ctx_size,
        slot_ctx_size=min(slot, context_limit(model.metadata, facts.configuration.rope) or slot),
        question=question,
        assignment=facts.assignment,
        ledger=facts.ledger,
        failures=failures,
        refusal=refusal,
        simulated_by=answer.engine if isinstance(answer, Answer) else None,
        unverified=answer.reason if isinstance(answer, Refusal) and silent else None,
        fit=facts.fit,
        fit_unknown=_unknown_fit(facts),
        reasons=explain_check(facts),
        caches=facts.caches,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    configuration: Configuration  # as `--fit` leaves it
    fit: FittedLine
    model: ModelFile
    architecture: Architecture
    tensor_names: tuple[str, ...]
    machine: Machine
    budgets: Budgets  # of the devices in use
    question: Question
    answer: Answer | Refusal


def _read_case(
    configuration: Configuration,
    model: ModelFile,
    machine: Machine,
    oracle: LineOracle,
    path: str,
    companions: Companions,
) -> _Case:
    architecture = read_architecture(model.metadata, model.tensors)
    devices = used_devices(configuration, machine.devices)
    names = tuple(tensor.name for tensor in model.tensors)

    def question_of(line: Configuration) -> Question:
        pool = pool_size(line, architecture.n_ctx_train)
        return companions.of_main(question_of_configuration(line, path, devices, pool, names))

    fit = fit_line(configuration, question_of(configuration), machine, oracle, companions)
    question = question_of(fit.configuration)
    budgets = read_budgets(replace(machine, devices=devices), fit_limits(fit, devices))
    return _Case(
        configuration=fit.configuration,
        fit=fit,
        model=model,
        architecture=architecture,
        tensor_names=names,
        machine=machine,
        budgets=budgets if question.repack else as_in_file(budgets),
        question=question,
        answer=oracle.simulate(question),
    )


def _count_model(case: _Case) -> tuple[tuple[LedgerRow, ...], Assignment, ServerCaches]:
    """Return the model's own rows, simulated if possible, who has its layers, and the server's caches."""
    question = case.question
    divided = splits_tensors(question)
    counted = as_one_device(question) if divided else question
    assignment = assign(counted, case.architecture, case.model.tensors)
    demand = demand_of_question(question, case.architecture, case.model)
    caches = _server_caches(demand, case.configuration)
    rows = count_question(demand, counted, assignment, case.budgets, caches.amount)
    if divided:
        rows = divide_ledger(rows, question, case.budgets)
        assignment = divide_assignment(assignment, question)
    if isinstance(case.answer, Answer):
        rows = with_shared_memory(simulated_ledger(rows, case.answer), case.budgets)
    return rows, assignment, caches


def _with_companions(
    case: _Case, own: tuple[LedgerRow, ...], companions: CompanionMemory
) -> tuple[LedgerRow, ...]:
    if not companions.rows:
        return own
    # Companions may be on devices that the model does not use.
    used = case.question.devices
    others = (device for device in case.machine.devices if device not in used)
    every = replace(case.machine, devices=(*used, *others))
    return add_companions(own, companions.rows, read_budgets(every, fit_limits(case.fit, used)))


def _describe_tables(case: _Case) -> tuple[str, ...]:
    in_file = tables_of_question(case.question, case.architecture, case.model.tensors)
    return describe_tables(case.model.tensors, case.model.metadata, in_file, case.question.devices)


def _refusal(case: _Case) -> str | None:
    refusal = refusal_of(case.configuration, case.question.devices)
    if refusal is None and isinstance(case.answer, Refusal) and case.answer.model_refused:
        return case.answer.reason
    return refusal


def _server_caches(demand: Demand, configuration: Configuration) -> ServerCaches:
    """Count the prompt cache and the checkpoints of every slot at their limits."""
    return full_caches(
        demand,
        prompt_bytes=configuration.cache_ram_bytes or 0,  # without a limit it is mentioned, not counted
        checkpoints=configuration.ctx_checkpoints,
        swa_full=configuration.swa_full,
    )


def _at_work(
    case: _Case, caches: ServerCaches, ledger: tuple[LedgerRow, ...]
) -> tuple[ServerCaches, tuple[LedgerRow, ...]]:
    """Count the checkpoints of one slot, where nobody asked for more and all at once would still go."""
    # With --cache-idle-slots, the default, a new task has the idle slots of a unified cache cleared, and
    # their checkpoints count as the prompt cache's (server_context_impl::process_single_task). All at once
    # may take what is left to others, and no more.
    configuration, host = case.configuration, ledger[-1]
    clears = (
        configuration.kv_unified and configuration.cache_idle_slots and configuration.cache_ram_bytes != 0
    )
    if configuration.slots_given or not clears or -host.free_bytes > case.budgets.ram_reserve_bytes:
        return caches, ledger
    one = replace(caches, slots=1)
    return one, (*ledger[:-1], replace(host, cache=one.amount))


def _size_companions(
    companions: Companions, main: MainModel, machine: Machine
) -> tuple[CompanionMemory, str | None]:
    """Return what companions take, or nothing and why llama.cpp would not load one of them."""
    try:
        return size_companions(companions, main, machine), None
    except EngineFailed as error:
        return CompanionMemory(), error.message
