"""The JSON document, and the way to the simulator and back."""

from __future__ import annotations

import json

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST, Basis
from launcher.plan.as_json import basis_of, plan_json, shortfall_json
from launcher.plan.memory.simulated import plan_question, simulated_ledger
from launcher.plan.modes import FlashAttention
from launcher.plan.oracle import Answer, BufferRow
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model

CARDS: tuple[Device, ...] = cards(250, 120)


def a_plan() -> Plan:
    outcome = make_plan(model(), "Q4_0", machine(*CARDS), Workload(ctx_size=2048))
    assert isinstance(outcome, Plan)
    return outcome


def a_shortfall() -> Shortfall:
    outcome = make_plan(model("deepseek2", "kimi-k2.5"), "Q4_0", machine(), Workload(ctx_size=4096))
    assert isinstance(outcome, Shortfall)
    return outcome


def a_choice() -> Choice:
    offers = [
        Offer(quant="big", model=model("deepseek2", "kimi-k2.5")),
        Offer(quant="small", model=model()),
    ]
    return search(offers, Task(machine=machine(*CARDS), workload=Workload(ctx_size=2048)))


def test_the_document_of_a_plan() -> None:
    plan = a_plan()
    document = json.loads(
        json.dumps(plan_json(plan, argv=("llama-server", "-c", "2048"), env={"A": "B"}, choice=a_choice()))
    )
    assert document["schema"] == 1
    assert document["fits"] is True
    assert document["basis"] == "estimated"
    assert document["context"] == {"tokens": 2048, "slots": 1, "shared": True}
    assert [row["id"] for row in document["devices"]] == ["CUDA0", "CUDA1"]
    for row in (*document["devices"], document["host"]):
        parts = sum(
            row[f"{kind}_bytes"]
            for kind in ("weights", "kv", "compute", "cache", "overhead", "extra", "band")
        )
        assert row["used_bytes"] == parts
        assert row["free_bytes"] == row["budget_bytes"] - parts
    assert document["alternatives"][0]["missing_bytes"] > 0
    assert document["alternatives"][0]["quant"] == "big"
    assert document["env"] == {"A": "B"}
    assert document["forecast"]["decode_tps"]["low"] < document["forecast"]["decode_tps"]["high"]
    assert document["prices"]
    assert document["shortfall"] is None


def test_the_document_of_a_shortfall() -> None:
    document = json.loads(json.dumps(shortfall_json(a_shortfall())))
    assert document["fits"] is False
    assert document["shortfall"]["where"] == "host"
    assert document["argv"] is None
    assert set(document) == set(plan_json(a_plan()))


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
