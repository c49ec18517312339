"""A search of the Hub: what it finds, what of it could fit, and what a server may answer instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.models.hub.api_json import parse_search
from launcher.system.json_object import Malformed
from tests.cli.shell import SHARDS, Shell
from tests.fakes.hub import FakeHub, Fault


@pytest.fixture
def hub(tmp_path: Path):
    with FakeHub() as running:
        for name, content in SHARDS.items():
            (tmp_path / name).write_bytes(content)
        running.publish("user/big-model-GGUF", {name: tmp_path / name for name in SHARDS})
        running.publish("other/notes", {"README.md": tmp_path / next(iter(SHARDS))})
        yield running


def test_repos_are_found_by_their_words_with_quants_and_what_could_fit(hub, tmp_path):
    found = Shell(hub, tmp_path).json("search", "big model", "--ram", "32G")
    assert [(row["repo"], row["downloads"], row["fits_by_size"]) for row in found] == [
        ("user/big-model-GGUF", 1000, "Q4_K_M")
    ]
    assert found[0]["quants"] == [{"quant": "Q4_K_M", "size_bytes": sum(map(len, SHARDS.values()))}]
    code, out, _ = Shell(hub, tmp_path).type("search", "big", "--ram", "32G")
    assert code == 0
    assert "user/big-model-GGUF" in out


def test_a_search_asks_for_nothing_but_the_search_and_the_listings(hub, tmp_path):
    Shell(hub, tmp_path).json("search", "big", "--ram", "32G")
    kinds = [seen.path.split("?")[0].rsplit("/", 1)[-1][:8] for seen in hub.seen]
    commit = hub.repos["user/big-model-GGUF"].branches["main"]
    assert kinds == ["models", "main", commit[:8]]


def test_nothing_found_and_no_network_are_told_apart(hub, tmp_path):
    code, _, err = Shell(hub, tmp_path).type("search", "zebra")
    assert (code, "the Hub finds no repo with GGUF files for 'zebra'" in err) == (4, True)
    shell = Shell(hub, tmp_path)
    shell.env["HF_HUB_OFFLINE"] = "1"
    code, _, err = shell.type("search", "big")
    assert code != 0
    assert "hint:" in err


@pytest.mark.parametrize("body", [b"{}", b'["x"]'])
def test_an_answer_that_is_none_is_a_sentence(hub, tmp_path, body):
    hub.faults.append(Fault(where="api", body=body))
    code, _, err = Shell(hub, tmp_path).type("search", "big")
    assert code != 0
    assert "internal error" not in err


def test_names_that_could_leave_their_folder_are_left_out():
    rows = [
        {"id": "../x", "downloads": 1},
        {"id": "a/b/c"},
        {"id": 7},
        {"id": "a/b", "downloads": -1, "gated": "auto"},
    ]
    (only,) = parse_search(json.dumps(rows).encode())
    assert (only.name, only.downloads, only.is_gated) == ("a/b", 0, True)
    with pytest.raises(Malformed):
        parse_search(b"{}")
