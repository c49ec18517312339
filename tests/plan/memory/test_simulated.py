"""A plan as a question to the simulator, and its ledger with the answer."""

from __future__ import annotations

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST, Basis
from launcher.plan.as_json import basis_of
from launcher.plan.memory.simulated import plan_question, simulated_ledger
from launcher.plan.modes import FlashAttention
from launcher.plan.oracle import Answer, BufferRow
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.planned import make_plan
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
