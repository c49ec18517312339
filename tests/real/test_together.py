"""Two `launcher up` at the same moment with the real engine: they never plan the same free bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.engine.find import Engine
from launcher.units import MIB

pytestmark = pytest.mark.engine


class Host:
    """A host whose launchers share one folder."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.env = {**os.environ, "LAUNCHER_HOME": str(home), "LAUNCHER_ENGINE": str(engine.path)}

    def begin(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "launcher", *words, "--json"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, env=self.env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )

    def json(self, *words: str) -> Any:
        said, errors = self.begin(*words).communicate(timeout=240)
        return json.loads(said or errors)


@pytest.fixture
def host(engine: Engine, tmp_path: Path) -> Iterator[Host]:
    host = Host(engine, tmp_path / "launcher")
    yield host
    host.json("stop", "--all")


def test_two_at_once_never_plan_the_same_free_bytes(host: Host, default_model: Path) -> None:
    # Each asks for 0.6 of what is free for its prompt cache, which llama-server takes later, or never: only
    # the claim tells the second that it is gone.
    free = host.json("probe")["ram_available_bytes"]
    words = ("up", str(default_model), "-c", "512", "--cache-ram", f"{int(free * 0.6) // MIB}M")
    both = {name: host.begin(*words, "--name", name) for name in ("one", "two")}
    said = {name: process.communicate(timeout=240) for name, process in both.items()}
    codes = {name: process.returncode for name, process in both.items()}
    assert sorted(codes.values()) == [0, 3], said
    winner, loser = sorted(codes, key=lambda name: codes[name])

    error = json.loads(said[loser][0])["error"]
    assert error["code"] == "does_not_fit"
    assert error["hint"].startswith(f"launcher stop {winner} (it was promised ")
    [running] = host.json("ps")
    assert running["name"] == winner
    [claim] = [found for found in host.json("doctor")["findings"] if found["check"] == "claims"]
    assert claim["text"].startswith(f"{winner} was promised ")

    host.json("stop", winner)
    assert host.json(*words, "--name", loser)["phase"] == "ready"


def test_two_that_fit_come_up_together(host: Host, default_model: Path) -> None:
    words = ("up", str(default_model), "-c", "512", "--cache-ram", "0")
    both = [host.begin(*words, "--name", name) for name in ("one", "two")]
    documents = [json.loads(process.communicate(timeout=240)[0]) for process in both]
    assert [document["name"] for document in documents] == ["one", "two"]
    assert len({document["port"] for document in documents}) == 2
