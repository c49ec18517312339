"""A record as a value and as JSON, and the names of deployments."""

from __future__ import annotations

import json
import os

import pytest

from launcher.deployment.record import (
    check_name,
    deployment_name,
    parse_deployment,
    plan_hash,
    record_json,
)
from launcher.plan.amounts import HOST
from launcher.plan.from_json import stored
from launcher.plan.plan import Plan
from tests.deployment.recorded import a_deployment
from tests.plan.planned import ledger_row, small_plan


def test_the_document_is_what_scripts_read() -> None:
    given = record_json(a_deployment())
    assert given["pid"] == os.getpid()
    plan = a_deployment().stored_plan.document
    assert (given["name"], given["url"], given["plan"]) == ("m", "http://127.0.0.1:1234", plan)
    assert parse_deployment(json.dumps(given)) == a_deployment()


def test_a_record_says_what_its_plan_takes() -> None:
    rows = (ledger_row("CUDA0", weights=5, kv=2), ledger_row("CUDA1", weights=6), ledger_row(HOST, compute=1))
    entry = a_deployment(stored_plan=stored(small_plan("CUDA0", "CUDA1", ledger=rows)))
    again = parse_deployment(json.dumps(record_json(entry)))
    assert isinstance(again.plan, Plan)
    assert again.planned_bytes == {"CUDA0": 7, "CUDA1": 6, HOST: 1}


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("smollm2-135m", "smollm2-135m"),
        ("unsloth/Kimi-K2.5-GGUF:TQ1_0", "kimi-k2.5-gguf-tq1_0"),
        ("/models/My Model.gguf", "my-model"),
        ("https://x/../..", "model"),
        ("モデル", "model"),
        ("a" * 200, "a" * 64),
    ],
)
def test_a_name_is_derived_from_the_model(model_id: str, name: str) -> None:
    assert deployment_name(model_id) == name
    assert check_name(name) == name


def test_equal_plans_have_equal_hashes() -> None:
    assert plan_hash({"a": 1, "b": [2]}) == plan_hash({"b": [2], "a": 1})
    assert plan_hash({"a": 1}) != plan_hash({"a": 2})
