"""Size companions place by place, by the simulator or an estimate, and add them to a ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow, add_amounts
from launcher.plan.companions import Companions, Projector
from launcher.plan.memory.budget import Budgets, DeviceBudget
from launcher.plan.memory.companion_questions import projector_question
from launcher.plan.memory.companion_rows import (
    CompanionRow,
    SizedCompanion,
    by_place,
    raise_if_refused,
    simulated_rows,
)
from launcher.plan.memory.draft_memory import MainModel, has_head, size_draft, size_mtp
from launcher.plan.memory.ledger import with_shared_memory
from launcher.plan.memory.projector import compute_growth, estimate_compute
from launcher.plan.oracle import Question, Refusal
from launcher.units import format_bytes

_FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionMemory:
    rows: tuple[CompanionRow, ...] = ()  # one per place
    reasons: tuple[str, ...] = ()
    unanswered: str | None = None  # why the simulator, which was asked, gave no answer about one of them

    @property
    def used_bytes(self) -> dict[str, int]:
        return {row.where: row.used_bytes for row in self.rows}


def size_companions(companions: Companions, main: MainModel, machine: Machine) -> CompanionMemory:
    """Size the companions of `main`; what drafts is estimated if `main` has no oracle.

    Raises EngineFailed for a file that llama.cpp refuses to load, UsageError for a device that is not there.
    """
    # A drafter is another question with every plan. While plans are only compared, formulas size it.
    sized: list[tuple[str, ModelFile, SizedCompanion]] = []
    if companions.draft is not None:
        draft = companions.draft
        sized.append(("draft model", draft.model, size_draft(draft, companions, main, machine)))
    elif companions.mtp is not None:
        sized.append(("MTP context of", main.model, size_mtp(companions.mtp, companions, main, machine)))
    if companions.projector is not None:
        # A projector is the same question with most plans, so it is always asked.
        projector = companions.projector
        sized.append(("projector", projector.model, _projector(projector, main.question, machine)))
    silences = [*companions.uncounted, *(text for _, model, each in sized for text in _silence(model, each))]
    rows = [row for _, _, each in sized for row in each.rows]
    if not has_head(companions):
        rows.append(_drafted_logits(companions, main))
    return CompanionMemory(
        rows=by_place(rows),
        reasons=tuple(_sentence(kind, model, each) for kind, model, each in sized),
        unanswered="; ".join(silences) or None,
    )


def _drafted_logits(companions: Companions, main: MainModel) -> CompanionRow:
    """Count the rows of logits for drafted tokens; a head's growth has them already."""
    # llama_context::output_reserve: one row for each slot at first, one for each drafted token in a batch
    question = main.question
    n_slots = question.n_parallel
    rows = min(question.batch_size, n_slots * (1 + companions.n_draft)) - n_slots
    n_vocab = read_architecture(main.model.metadata, main.model.tensors).n_vocab or 0
    return CompanionRow(
        where=HOST, compute=Amount(n_bytes=_FLOAT * n_vocab * max(rows, 0), basis=Basis.EXACT)
    )


def _silence(model: ModelFile, sized: SizedCompanion) -> tuple[str, ...]:
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
        name=budget.device.label,
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


def _projector(projector: Projector, main: Question, machine: Machine) -> SizedCompanion:
    question = projector_question(projector, main, machine.devices)
    more = compute_growth(projector.model, projector.request.image_max_tokens, question.flash_attn)
    answer = projector.oracle.simulate_projector(question)
    if isinstance(answer, Refusal):
        raise_if_refused(answer, projector.model)
        row = CompanionRow(
            where=question.where,
            # Exact without a simulator, too: the whole file goes to one place.
            weights=Amount(
                n_bytes=sum(tensor.size_bytes for tensor in projector.model.tensors), basis=Basis.EXACT
            ),
            compute=estimate_compute(projector.model, question.flash_attn),
        )
        how = f"compute estimated: {answer.reason}{more.sentence}"
        return SizedCompanion(rows=(_grown(row, more.factor),), how=how, refusal=answer)
    rows = tuple(_grown(row, more.factor) for row in simulated_rows(answer.rows))
    return SizedCompanion(rows=rows, how=f"simulated by {answer.engine}{more.sentence}")


def _grown(row: CompanionRow, factor: float) -> CompanionRow:
    """Widen the band of compute by the growth that is possible while it serves."""
    more = round(row.compute.n_bytes * (factor - 1))
    return replace(row, compute=replace(row.compute, band_bytes=row.compute.band_bytes + more))


def _sentence(kind: str, model: ModelFile, sized: SizedCompanion) -> str:
    places = "; ".join(f"{row.where} {_sizes(row)}" for row in sized.rows)
    return f"{kind} {model.model_id} in the ledger: {places} ({sized.how})"


def _sizes(row: CompanionRow) -> str:
    named: Mapping[str, Amount] = {"weights": row.weights, "cache": row.kv, "compute": row.compute}
    return ", ".join(
        f"{format_bytes(amount.n_bytes)} {name}" for name, amount in named.items() if amount.n_bytes
    )
