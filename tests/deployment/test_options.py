"""A supervisor's options, out of records of this version and of others."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from launcher.deployment.history import Identity, RescueNote
from launcher.deployment.options import SupervisorOptions, parse_options
from launcher.system.json_object import JsonObject, Malformed

OPTIONS = SupervisorOptions(
    keep_up=True,
    canary=True,
    idle_s=1.0,
    memory_bytes=7,
    history="/state/history.jsonl",
    driver="570",
    attempt=RescueNote(
        saves=Identity(plan="p", engine=None, driver="570"), correction={"less": [["CUDA0", 5]]}, step="less"
    ),
    claim={"GPU-1": 5, "ram": 6},
    claim_folder="/dev/shm/claims",
    devices={"CUDA0": "GPU-1"},
    passed=("LLAMA_ARG_X",),
)


def test_options_are_read_back() -> None:
    assert parse_options(JsonObject(json.loads(json.dumps(asdict(OPTIONS))))) == OPTIONS


def test_options_of_other_versions_have_the_defaults() -> None:
    assert parse_options(JsonObject({})) == SupervisorOptions()
    old = {"keep_up": True, "attempt": {}, "engine": "no longer an option"}
    assert parse_options(JsonObject(old)) == SupervisorOptions(keep_up=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("keep_up", "yes"),
        ("idle_s", -1),
        ("idle_s", float("nan")),
        ("claim", {"ram": "6"}),
        ("claim", [1]),
        ("devices", {"CUDA0": 1}),
        ("passed", [1]),
        ("attempt", {"saves": {"plan": 1}}),
    ],
)
def test_damaged_options_are_refused(key: str, value: object) -> None:
    with pytest.raises(Malformed, match=key):
        parse_options(JsonObject({key: value}, "options"))
