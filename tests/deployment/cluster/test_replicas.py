"""Replicas on machines that are network namespaces, behind a real gateway: lost, drained, started again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from launcher.engine.find import Engine
from tests.conftest import missing
from tests.deployment.cluster.machines import Lab, machines, why_not
from tests.deployment.cluster.machines import eventually as wait_for

eventually = partial(wait_for, limit_s=180.0)
pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]  # many starts, beside other tests
_PORT = 8080
NAMES = ["smol.1", "smol.2"]
PEOPLE = 3
_ANSWER_S = 90.0


@dataclass
class Door:
    """The gateway on the head's machine, and people who ask it."""

    lab: Lab
    process: subprocess.Popen[bytes] | None = None
    answered: list[int] = field(default_factory=list)  # statuses
    lost: list[str] = field(default_factory=list)
    end: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        head = self.lab.head
        command = head.argv(sys.executable, "-m", "launcher", "serve", "--port", str(_PORT))
        env = {**os.environ, **head.variables}
        self.process = subprocess.Popen([*command, "--progress", "none"], env=env, stdout=subprocess.DEVNULL)
        eventually(lambda: self.asked("/v1/models") is not None)

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def asked(self, path: str, body: dict[str, object] | None = None) -> Any:
        """Ask on the head's machine; return the JSON, or None where there is no answer."""
        with ThreadPoolExecutor(1, initializer=self.lab.head.enter) as there:
            return there.submit(self._ask, path, body).result()

    def _ask(self, path: str, body: dict[str, object] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{_PORT}{path}", data)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                self.answered.append(answer.status)
                return json.load(answer)
        except urllib.error.HTTPError as error:
            self.lost.append(f"{error.code} {error.read()[:200]!r}")
        except OSError as error:
            self.lost.append(str(error))
        return None

    def states(self) -> dict[str, str]:
        """Return the states of replicas by name."""
        seen = self.asked("/gateway/status") or {"models": []}
        return {each["name"]: each["state"] for each in seen["models"] if each["replica_of"]}

    def busy(self) -> set[str]:
        return {each["asked"] for each in self.asked("/gateway/status")["requests"]}

    def answered_since(self, since: float) -> list[Any]:
        return [each for each in self.asked("/gateway/status")["answered"] if each["at"] > since]

    def draining(self) -> list[str]:
        return [each["name"] for each in self.asked("/gateway/status")["models"] if each["draining"]]

    @contextlib.contextmanager
    def people(self) -> Iterator[None]:
        """Have so many people ask one thing after the other meanwhile."""
        self.answered.clear()
        self.lost.clear()
        self.end.clear()

        def go_on(number: int) -> None:
            turn = 0
            while not self.end.is_set():
                self._ask("/v1/completions", question(f"{number}, {turn}"))
                turn += 1

        with ThreadPoolExecutor(PEOPLE, initializer=self.lab.head.enter) as crowd:
            for number in range(PEOPLE):
                crowd.submit(go_on, number)
            try:
                yield
            finally:
                self.end.set()


def question(words: str) -> dict[str, object]:
    text = f"Say {words} in other words."
    return {"model": "smol", "prompt": text, "max_tokens": 8, "temperature": 0, "ignore_eos": True}


@pytest.fixture
def lab(tmp_path: Path, engine: Engine) -> Iterator[Lab]:
    if (problem := why_not()) is not None:
        pytest.skip(problem)
    if not (engine.folder / "ggml-rpc-server").exists():
        raise missing("this engine has no ggml-rpc-server")
    with machines(tmp_path, engine, 2) as lab:
        for peer in lab.peers:
            lab.join(peer)
        yield lab


@pytest.fixture
def door(lab: Lab, default_model: Path) -> Iterator[Door]:
    words = (str(default_model), "--cluster", "--replicas", "2", "--name", "smol", "-c", "1024")
    up = lab.head.launcher("up", *words)
    assert [each["name"] for each in up] == NAMES
    assert [each["options"]["node"] for each in up] == ["box1", "box2"]
    door = Door(lab)
    try:
        door.open()
        eventually(lambda: door.states() == {"smol.1": "ready", "smol.2": "ready"})
        yield door
    finally:
        door.close()


def engines(door: Door) -> set[int]:
    return {each.pid for peer in door.lab.peers for each in peer.processes("llama-server -m")}


def answers(door: Door, count: int) -> None:
    """Wait until so many more requests are answered."""
    before = len(door.answered)
    eventually(lambda: len(door.answered) >= before + count)


def test_replicas_are_one_name_that_drains_starts_again_and_is_taken_over(
    door: Door, default_model: Path
) -> None:
    listed = [each["id"] for each in door.asked("/v1/models")["data"]]
    assert "smol" in listed
    assert not {"smol.1", "smol.2"} & set(listed)
    before = engines(door)

    with door.people():
        answers(door, 4)
        door.lab.head.launcher("restart", "smol")  # one after the other
        answers(door, 4)
        after = engines(door)
        assert (len(after), before & after) == (2, set())
        assert {each["asked"] for each in door.asked("/gateway/status")["answered"]} >= {"smol.1", "smol.2"}
        door.lab.head.launcher("cluster", "drain", "box1")
        eventually(lambda: door.draining() == ["smol.1"] and "smol.1" not in door.busy())
        since = time.time()
        answers(door, 6)
        assert {each["asked"] for each in door.answered_since(since)} == {"smol.2"}
    assert door.lost == []

    assert door.process is not None
    door.process.kill()
    door.process.wait()
    door.open()
    eventually(lambda: door.states() == {"smol.1": "ready", "smol.2": "ready"})
    assert door.asked("/v1/completions", question("it")) is not None
    assert engines(door) == after  # none was started again

    words = (str(default_model), "--cluster", "--name", "smol", "-c", "1024")
    refused = door.lab.head.launcher("up", *words, "--replicas", "4")  # box1 drains
    assert refused["error"]["code"] == "does_not_fit"
    assert "and there are 3" in refused["error"]["message"]
    assert [each["name"] for each in door.lab.head.launcher("up", *words, "--replicas", "2")] == NAMES
    door.lab.head.launcher("stop", "smol")
    assert door.lab.head.launcher("ps") == []
    eventually(lambda: not engines(door))


def test_a_lost_machine_costs_what_it_was_answering(door: Door) -> None:
    with door.people():
        answers(door, 6)
        door.lab.peers[0].lose_power()
        answers(door, 6)
    assert len(door.lost) <= PEOPLE, door.lost  # at most those that were on it: one of each who asked
