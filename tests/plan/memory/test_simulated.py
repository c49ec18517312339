"""A plan as a question to the simulator, and its ledger with the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST, Amount, Basis
from launcher.plan.as_json import basis_of
from launcher.plan.memory.simulated import cpu_unsure, plan_question, simulated_ledger
from launcher.plan.modes import FlashAttention
from launcher.plan.oracle import Answer, BufferRow
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.planned import ledger_row, make_plan
from tests.plan.shapes import cards, machine, model

CARDS: tuple[Device, ...] = cards(250, 120)


def a_plan() -> Plan:
    outcome = make_plan(model(), "Q4_0", machine(*CARDS), Workload(ctx_size=2048))
    assert isinstance(outcome, Plan)
    return outcome


def test_the_question_is_the_plan() -> None:
    plan = a_plan()
    question = plan_question(plan, "model.gguf", CARDS)
    assert question.devices == CARDS
    assert question.tensor_split == tuple(float(count) for count in plan.placement.tensor_split)
    assert question.n_gpu_layers == 13
    assert question.flash_attn is FlashAttention.AUTO
    assert question.kv_unified
    assert [override.where for override in question.overrides] == [HOST]


def test_an_answer_replaces_what_it_knows() -> None:
    plan = a_plan()
    answer = Answer(
        rows=tuple(
            BufferRow(
                where=where,
                buffer_type=kind,
                weights_bytes=MIB,
                kv_bytes=2 * MIB,
                recurrent_bytes=3 * MIB,
                compute_bytes=4 * MIB,
                output_bytes=5 * MIB,
            )
            for where, kind in (("CUDA0", "CUDA0"), ("CUDA1", "CUDA1"), (HOST, "CPU"), (HOST, "CUDA_Host"))
        ),
        slot_ctx_size=2048,
        flash_attn=True,
        sched_copies=1,
        graph_splits=(2, 2),
        host_tensors=(),
        engine="0c1e570",
    )
    ledger = simulated_ledger(plan.ledger, answer)
    assert [row.weights.n_bytes for row in ledger] == [MIB, MIB, 2 * MIB]
    assert [row.kv.n_bytes for row in ledger] == [5 * MIB, 5 * MIB, 10 * MIB]
    assert [row.compute.n_bytes for row in ledger] == [9 * MIB, 9 * MIB, 18 * MIB]
    assert ledger[-1].cache == plan.ledger[-1].cache
    assert {row.weights.basis for row in ledger} == {Basis.SIMULATED}
    assert basis_of(ledger) is Basis.ESTIMATED  # the backend's own overhead still is
    assert ledger[0].budget_bytes < 2 * GIB


def buffer(where: str, kind: str, weights: int, compute: int) -> BufferRow:
    return BufferRow(
        where=where,
        buffer_type=kind,
        weights_bytes=weights,
        kv_bytes=1,
        recurrent_bytes=0,
        compute_bytes=compute,
        output_bytes=0,
    )


def answered(*rows: BufferRow, other_cpu: bool = True) -> Answer:
    return Answer(
        rows=rows,
        slot_ctx_size=2048,
        flash_attn=True,
        sched_copies=1,
        graph_splits=(1, 1),
        host_tensors=(),
        engine="test",
        other_cpu=other_cpu,
    )


CARD = buffer("CUDA0", "CUDA0", 10, 10)


@pytest.mark.parametrize(
    ("answer", "unsure"),
    [
        (answered(buffer(HOST, "CPU", 10, 10)), True),  # without a device the CPU computes
        (answered(CARD, buffer(HOST, "CPU", 10, 10)), False),
        (answered(CARD, buffer(HOST, "CPU_REPACK", 10, 10)), True),
        (answered(buffer(HOST, "CPU", 10, 10), other_cpu=False), False),
        (answered(CARD, buffer(HOST, "CPU_REPACK", 10, 10), other_cpu=False), False),
    ],
)
def test_the_hosts_amounts_are_unsure_where_another_cpu_decides(answer: Answer, unsure: bool) -> None:
    assert cpu_unsure(answer) is unsure
    rows = [ledger_row("CUDA0", weights=10, compute=30), ledger_row(HOST, weights=10, compute=30)]
    guess = Amount(n_bytes=30, basis=Basis.ESTIMATED, band_bytes=5)
    ours = tuple(replace(row, compute=guess) for row in rows if row.where in {r.where for r in answer.rows})
    simulated = simulated_ledger(ours, answer)
    sure = Amount(n_bytes=10, basis=Basis.SIMULATED)
    assert simulated[-1].compute == (replace(guess, n_bytes=10, band_bytes=25) if unsure else sure)
    assert simulated[-1].weights.basis is (Basis.ESTIMATED if unsure else Basis.EXACT)
    assert all(row.compute == sure for row in simulated[:-1])
    # More than our own formula's most needs no band.
    low = tuple(replace(row, compute=replace(guess, n_bytes=2, band_bytes=1)) for row in ours)
    assert simulated_ledger(low, answer)[-1].compute.band_bytes == 0


def test_what_the_headers_give_exactly_stays_exact() -> None:
    row = ledger_row("CUDA0", weights=10, compute=10)
    (same,) = simulated_ledger((row,), answered(CARD))
    assert (same.weights.basis, same.compute.basis) == (Basis.EXACT, Basis.EXACT)
    (other,) = simulated_ledger((ledger_row("CUDA0", weights=11),), answered(CARD))
    assert (other.weights.basis, other.weights.n_bytes) == (Basis.SIMULATED, 10)
    band = Amount(n_bytes=10, basis=Basis.ESTIMATED, band_bytes=3)
    (guessed,) = simulated_ledger((replace(row, weights=band),), answered(CARD))
    assert guessed.weights == Amount(n_bytes=10, basis=Basis.SIMULATED)
