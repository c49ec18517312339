"""The document of `launcher check --json`."""

from __future__ import annotations

import json

from launcher.plan.check.as_json import check_json
from tests.plan.check.checks import verdict
from tests.plan.shapes import cards, machine


def test_the_document() -> None:
    document = json.loads(
        json.dumps(check_json(verdict("-c 4096 -ncmoe 6 -ngl 99", machine(*cards(60, 60)))))
    )
    assert document["schema"] == 1
    assert document["fits"] is False
    assert document["context"] == {"tokens": 4096, "slots": 4, "shared": True, "per_slot": 4096}
    assert document["failures"][0]["where"] == "CUDA1"
    assert [row["id"] for row in document["devices"]] == ["CUDA0", "CUDA1"]
    assert document["layers"][1]["layers"] == "7-12"
    assert document["layers"][1]["n_expert_blocks"] == 5
    assert document["settings"]["load_mode"] == "mmap"


def test_a_tensor_split_is_written_if_there_is_one() -> None:
    assert check_json(verdict("-c 4096 -ts 1,3"))["settings"]["tensor_split"] == [1.0, 3.0]
    assert check_json(verdict("-c 4096"))["settings"]["tensor_split"] is None
