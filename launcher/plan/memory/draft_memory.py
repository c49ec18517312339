"""Size what drafts for a model: a draft model, a head on the model's states, its own MTP blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.errors import EngineFailed
from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import NOTHING, LedgerRow
from launcher.plan.companions import Companions, Draft, MtpRequest
from launcher.plan.memory.assign import assign
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.companion_questions import (
    draft_question,
    head_question,
    mtp_question,
    needs_main_context,
)
from launcher.plan.memory.companion_rows import (
    SizedCompanion,
    ledger_rows,
    raise_if_refused,
    simulated_rows,
)
from launcher.plan.memory.estimate import count_question, demand_of_question
from launcher.plan.memory.simulated import simulated_ledger
from launcher.plan.oracle import (
    Answer,
    DraftAnswer,
    DraftOracle,
    DraftQuestion,
    Oracle,
    Question,
    Refusal,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MainModel:
    """The model that companions are loaded with."""

    question: Question
    model: ModelFile
    ledger: Sequence[LedgerRow]  # the model alone
    oracle: Oracle | None = None  # simulates it; None while plans are only compared


def has_head(companions: Companions) -> bool:
    """Return whether something drafts on the model's states."""
    draft = companions.draft
    return companions.mtp is not None or (
        draft is not None and needs_main_context(companions.spec_types, draft.model)
    )


def size_draft(draft: Draft, companions: Companions, main: MainModel, machine: Machine) -> SizedCompanion:
    """Size a draft model of its own.

    Raises EngineFailed if llama.cpp refuses it, UsageError for a device that is not there.
    """
    if needs_main_context(companions.spec_types, draft.model):
        question = head_question(draft, companions, main.question, machine.devices, main.ledger)
        estimate = _estimate_model(draft.model, question.draft, machine)
        return _beside_main(question, estimate, draft.model, main, draft.oracle)
    alone = draft_question(draft, main.question, machine.devices, main.ledger)
    estimate = _estimate_model(draft.model, alone, machine)
    if main.oracle is None:
        return SizedCompanion(rows=ledger_rows(estimate), how="estimated")
    answer = draft.oracle.simulate(alone)
    return _sized(answer, estimate, draft.model)


def size_mtp(mtp: MtpRequest, companions: Companions, main: MainModel, machine: Machine) -> SizedCompanion:
    """Size the context on the model's own MTP blocks, whose weights are the model's.

    Raises EngineFailed for a model without MTP blocks.
    """
    architecture = read_architecture(main.model.metadata, main.model.tensors)
    if not architecture.n_nextn:
        raise EngineFailed(
            f"llama.cpp would not load {main.model.source} with --spec-type draft-mtp: it has no MTP blocks",
            hint="leave --spec-type draft-mtp out, or take a file that has them",
        )
    question = mtp_question(mtp, companions, main.question)
    estimate = _estimate_mtp(architecture, main.model, question.draft, machine)
    sized = _beside_main(question, estimate, main.model, main, None)
    kept = companions.n_rs_seq
    states = f", and {kept} more recurrent states for each slot" if any(architecture.recurrent_blocks) else ""
    return replace(sized, how=f"{sized.how}; the blocks' weights{states} are among the model's")


def _beside_main(
    question: DraftQuestion,
    estimate: tuple[LedgerRow, ...],
    model: ModelFile,
    main: MainModel,
    own: Oracle | None,
) -> SizedCompanion:
    """Size a context that is made with the main one."""
    if main.oracle is None:
        return SizedCompanion(rows=ledger_rows(estimate), how="estimated")
    if not isinstance(main.oracle, DraftOracle):
        silence = Refusal(reason="there is no simulator for draft contexts", model_refused=False)
        return _sized(silence, estimate, model)
    answer = main.oracle.simulate_draft(question, own)
    if isinstance(answer, DraftAnswer):
        # What the first batch adds is counted from the start: it is taken while llama-server serves.
        answer = replace(answer, rows=(*answer.rows, *answer.growth), growth=())
    return _sized(answer, estimate, model)


def _sized(
    answer: Answer | DraftAnswer | Refusal, estimate: tuple[LedgerRow, ...], model: ModelFile
) -> SizedCompanion:
    if isinstance(answer, Refusal):
        raise_if_refused(answer, model)
        return SizedCompanion(rows=ledger_rows(estimate), how=f"estimated: {answer.reason}", refusal=answer)
    how = f"simulated by {answer.engine}"
    if answer.other_cpu:  # then the host's amounts are estimates
        return SizedCompanion(rows=ledger_rows(simulated_ledger(estimate, answer)), how=how)
    return SizedCompanion(rows=simulated_rows(answer.rows), how=how)


def _estimate_model(model: ModelFile, question: Question, machine: Machine) -> tuple[LedgerRow, ...]:
    """Estimate the ledger of a draft model, whose layers llama.cpp divides by itself."""
    return _estimate(read_architecture(model.metadata, model.tensors), model, question, machine)


def _estimate_mtp(
    architecture: Architecture, model: ModelFile, question: Question, machine: Machine
) -> tuple[LedgerRow, ...]:
    """Estimate the context of the MTP blocks: attention only, whatever the other blocks are."""
    blocks = range(architecture.n_block)
    attention = replace(
        architecture,
        kv_blocks=tuple(block >= architecture.n_main for block in blocks),
        recurrent_blocks=(False,) * architecture.n_block,
        recurrence=None,
    )
    rows = _estimate(attention, model, question, machine)
    return tuple(replace(row, weights=NOTHING) for row in rows)


def _estimate(
    architecture: Architecture, model: ModelFile, question: Question, machine: Machine
) -> tuple[LedgerRow, ...]:
    return count_question(
        demand_of_question(question, architecture, model),
        question,
        assign(question, architecture, model.tensors),
        read_budgets(replace(machine, devices=question.devices)),
    )
