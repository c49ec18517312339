"""Size companions place by place, by the simulator or an estimate, and add them to a ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.errors import EngineFailed
from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow, add_amounts
from launcher.plan.companions import Companions, Draft, Projector
from launcher.plan.memory.assign import assign
from launcher.plan.memory.budget import Budgets, DeviceBudget, read_budgets
from launcher.plan.memory.companion_questions import draft_question, projector_question
from launcher.plan.memory.estimate import count_question, demand_of_question
from launcher.plan.memory.ledger import with_shared_memory
from launcher.plan.memory.projector import compute_growth, estimate_compute
from launcher.plan.memory.simulated import simulated_ledger
from launcher.plan.oracle import BufferRow, Question, Refusal
from launcher.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionRow:
    where: str
    weights: Amount = NOTHING
    kv: Amount = NOTHING
    compute: Amount = NOTHING

    @property
    def used_bytes(self) -> int:
        return sum(amount.n_bytes + amount.band_bytes for amount in (self.weights, self.kv, self.compute))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionMemory:
    rows: tuple[CompanionRow, ...] = ()  # one per place
    reasons: tuple[str, ...] = ()
    unanswered: str | None = None  # why the simulator, which was asked, gave no answer about one of them

    @property
    def used_bytes(self) -> dict[str, int]:
        return {row.where: row.used_bytes for row in self.rows}


def size_companions(
    companions: Companions,
    main: Question,
    machine: Machine,
    ledger: Sequence[LedgerRow],
    *,
    ask_about_draft: bool = True,
) -> CompanionMemory:
    """Size the companions of `main`, whose own memory is `ledger`.

    Raises EngineFailed for a file that llama.cpp refuses to load, UsageError for a device that is not there.
    """
    rows: list[CompanionRow] = []
    reasons: list[str] = []
    silences: list[str] = []
    if companions.draft is not None:
        # A draft model is another question with every plan. While plans are only compared, formulas size it.
        sized = _draft(companions.draft, main, machine, ledger, ask=ask_about_draft)
        rows += sized.rows
        reasons.append(_sentence("draft model", companions.draft.model, sized))
        silences += _silence(companions.draft.model, sized)
    if companions.projector is not None:
        # A projector is the same question with most plans, so it is always asked.
        sized = _projector(companions.projector, main, machine)
        rows += sized.rows
        reasons.append(_sentence("projector", companions.projector.model, sized))
        silences += _silence(companions.projector.model, sized)
    return CompanionMemory(
        rows=_by_place(rows), reasons=tuple(reasons), unanswered="; ".join(silences) or None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sized:
    """The rows of one companion, and how they are known."""

    rows: tuple[CompanionRow, ...]
    how: str
    refusal: Refusal | None = None


def _silence(model: ModelFile, sized: _Sized) -> tuple[str, ...]:
    if sized.refusal is None or not sized.refusal.is_unanswered:
        return ()
    return (f"{model.model_id}: {sized.refusal.reason}",)


def add_companions(
    ledger: Sequence[LedgerRow], rows: Iterable[CompanionRow], budgets: Budgets
) -> tuple[LedgerRow, ...]:
    added = {row.where: row for row in rows}
    totals = {row.where: _add(row, added.get(row.where)) for row in ledger}
    devices = []
    for budget in budgets.devices:
        extra, total = added.get(budget.device.id), totals.get(budget.device.id)
        if total is None and extra is None:
            continue
        total = total or _add(_empty_row(budget), extra)  # a device that only companions use
        devices.append(replace(total, budget_bytes=budget.n_bytes))
    return with_shared_memory((*devices, totals[HOST]), budgets)


def _empty_row(budget: DeviceBudget) -> LedgerRow:
    return LedgerRow(
        where=budget.device.id,
        name=budget.device.name,
        weights=NOTHING,
        kv=NOTHING,
        compute=NOTHING,
        cache=NOTHING,
        overhead=budget.overhead,
        budget_bytes=budget.n_bytes,
    )


def _add(row: LedgerRow, extra: CompanionRow | None) -> LedgerRow:
    if extra is None:
        return row
    return replace(
        row,
        weights=add_amounts(row.weights, extra.weights),
        kv=add_amounts(row.kv, extra.kv),
        compute=add_amounts(row.compute, extra.compute),
    )


def _draft(
    draft: Draft, main: Question, machine: Machine, ledger: Sequence[LedgerRow], *, ask: bool
) -> _Sized:
    question = draft_question(draft, main, machine.devices, ledger)
    if not ask:
        return _Sized(rows=_rows(_estimated_draft(draft.model, question, machine)), how="estimated")
    answer = draft.oracle.simulate(question)
    if isinstance(answer, Refusal):
        _raise_if_refused(answer, draft.model)
        rows = _rows(_estimated_draft(draft.model, question, machine))
        return _Sized(rows=rows, how=f"estimated: {answer.reason}", refusal=answer)
    how = f"simulated by {answer.engine}"
    if answer.other_cpu:  # then the host's amounts are estimates
        rows = _rows(simulated_ledger(_estimated_draft(draft.model, question, machine), answer))
        return _Sized(rows=rows, how=how)
    return _Sized(rows=_simulated(answer.rows), how=how)


def _projector(projector: Projector, main: Question, machine: Machine) -> _Sized:
    question = projector_question(projector, main, machine.devices)
    more = compute_growth(projector.model, projector.request.image_max_tokens, question.flash_attn)
    answer = projector.oracle.simulate_projector(question)
    if isinstance(answer, Refusal):
        _raise_if_refused(answer, projector.model)
        row = CompanionRow(
            where=question.where,
            # Exact without a simulator, too: the whole file goes to one place.
            weights=Amount(
                n_bytes=sum(tensor.size_bytes for tensor in projector.model.tensors), basis=Basis.EXACT
            ),
            compute=estimate_compute(projector.model, question.flash_attn),
        )
        how = f"compute estimated: {answer.reason}{more.sentence}"
        return _Sized(rows=(_grown(row, more.factor),), how=how, refusal=answer)
    rows = tuple(_grown(row, more.factor) for row in _simulated(answer.rows))
    return _Sized(rows=rows, how=f"simulated by {answer.engine}{more.sentence}")


def _grown(row: CompanionRow, factor: float) -> CompanionRow:
    """Widen the band of compute by the growth that is possible while it serves."""
    more = round(row.compute.n_bytes * (factor - 1))
    return replace(row, compute=replace(row.compute, band_bytes=row.compute.band_bytes + more))


def _raise_if_refused(refusal: Refusal, model: ModelFile) -> None:
    if refusal.model_refused:
        raise EngineFailed(
            f"llama.cpp would not load {model.source}: {refusal.reason}",
            hint="launcher engine info shows the engine; leave the file out, or choose another",
        )


def _simulated(rows: Iterable[BufferRow]) -> tuple[CompanionRow, ...]:
    return _by_place(
        CompanionRow(
            where=row.where,
            weights=_amount(row.weights_bytes),
            kv=_amount(row.kv_bytes + row.recurrent_bytes),
            compute=_amount(row.compute_bytes + row.output_bytes),
        )
        for row in rows
    )


def _amount(n_bytes: int) -> Amount:
    return Amount(n_bytes=n_bytes, basis=Basis.SIMULATED)


def _by_place(rows: Iterable[CompanionRow]) -> tuple[CompanionRow, ...]:
    sums: dict[str, CompanionRow] = {}
    for row in rows:
        before = sums.get(row.where, CompanionRow(where=row.where))
        sums[row.where] = CompanionRow(
            where=row.where,
            weights=add_amounts(before.weights, row.weights),
            kv=add_amounts(before.kv, row.kv),
            compute=add_amounts(before.compute, row.compute),
        )
    return tuple(row for row in sums.values() if row.used_bytes)


def _estimated_draft(model: ModelFile, question: Question, machine: Machine) -> tuple[LedgerRow, ...]:
    """Estimate the ledger of a draft model, whose layers llama.cpp divides by itself."""
    architecture = read_architecture(model.metadata, model.tensors)
    return count_question(
        demand_of_question(question, architecture, model),
        question,
        assign(question, architecture, model.tensors),
        read_budgets(replace(machine, devices=question.devices)),
    )


def _rows(ledger: Iterable[LedgerRow]) -> tuple[CompanionRow, ...]:
    return _by_place(
        CompanionRow(where=row.where, weights=row.weights, kv=row.kv, compute=row.compute) for row in ledger
    )


def _sentence(kind: str, model: ModelFile, sized: _Sized) -> str:
    places = "; ".join(f"{row.where} {_sizes(row)}" for row in sized.rows)
    return f"{kind} {model.model_id} in the ledger: {places} ({sized.how})"


def _sizes(row: CompanionRow) -> str:
    named: Mapping[str, Amount] = {"weights": row.weights, "cache": row.kv, "compute": row.compute}
    return ", ".join(
        f"{format_bytes(amount.n_bytes)} {name}" for name, amount in named.items() if amount.n_bytes
    )
