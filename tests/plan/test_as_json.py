"""The JSON document of a plan and of a shortfall."""

from __future__ import annotations

import json
from dataclasses import replace

from launcher.machine.machine import Device
from launcher.plan.amounts import Amount, Basis
from launcher.plan.as_json import basis_of, plan_json, shortfall_json
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Workload
from tests.plan.planned import ledger_row, make_plan, small_plan
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
    assert document["host"]["budget_bytes"] == plan.ledger[-1].budget_bytes
    assert document["alternatives"][0]["missing_bytes"] > 0
    assert document["alternatives"][0]["quant"] == "big"
    assert document["argv"] == ["llama-server", "-c", "2048"]
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


def test_what_is_not_known_is_null() -> None:
    document = plan_json(small_plan("CUDA0"))
    assert document["argv"] is None
    assert document["settings"]["cpus"] is None
    bound = plan_json(replace(small_plan("CUDA0"), cpus=(0, 1, 2, 8)))
    assert bound["settings"]["cpus"] == "0-2,8"


def test_a_ledger_is_as_sure_as_its_least_sure_amount() -> None:
    row = ledger_row("CUDA0", weights=1)
    assert basis_of([row]) is Basis.EXACT
    assert basis_of([replace(row, kv=Amount(n_bytes=1, basis=Basis.ESTIMATED))]) is Basis.ESTIMATED
    band = Amount(n_bytes=0, basis=Basis.ESTIMATED, band_bytes=1)
    assert basis_of([replace(row, kv=band)]) is Basis.ESTIMATED
    assert basis_of([replace(row, kv=replace(band, band_bytes=0))]) is Basis.EXACT
