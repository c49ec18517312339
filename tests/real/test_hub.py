"""One cache for all: three shards between a local Hub, `launcher`, `hf` and the real `llama-server -hf`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from launcher.deployment.ports import free_port
from launcher.engine.find import Engine
from tests.fakes.hub import FakeHub
from tests.make_projector import make_projector
from tests.moe_shards import moe_shards
from tests.serving import SMALL, until

pytestmark = pytest.mark.engine

REPO = "user/moe-GGUF"
SHARDS = moe_shards("UD-Q4_K_XL/moe-UD-Q4_K_XL", n_expert=64)
QUANT = f"{REPO}:UD-Q4_K_XL"
TOKEN = "hf_" + "a" * 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A user's machine: the engine, one Hub's cache for every program, and the Hub that holds the model."""

    engine: Engine
    hub: FakeHub
    commit: str
    home: Path

    @property
    def env(self) -> dict[str, str]:
        own = {
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(self.home / "hf"),
            "LAUNCHER_HOME": str(self.home / "launcher"),
        }
        return {**os.environ, **own, "HF_ENDPOINT": self.hub.url, "LAUNCHER_ENGINE": str(self.engine.path)}

    @property
    def files(self) -> dict[str, bytes]:
        """What the cache has of the pinned commit."""
        snapshot = self.home / "hf/hub/models--user--moe-GGUF/snapshots" / self.commit
        return {
            str(path.relative_to(snapshot)): path.read_bytes()
            for path in snapshot.rglob("*")
            if not path.is_dir()
        }

    def launcher(self, *words: str) -> Any:
        """Return the JSON document that `launcher` prints."""
        command = [sys.executable, "-m", "launcher", words[0], "--json", *words[1:]]
        done = subprocess.run(
            command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def llama_server(self, *flags: str) -> Iterator[str]:
        """Yield the URL of `llama-server -hf` once it is healthy, without the Hub's projector."""
        port = free_port("127.0.0.1")
        log = self.home / "server.log"
        command = [self.engine.path, "-hf", QUANT, "--no-mmproj", "--port", str(port), *SMALL, *flags]
        with log.open("wb") as said:
            server = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        url = f"http://127.0.0.1:{port}"

        def healthy() -> bool:
            assert server.poll() is None, log.read_text()[-3000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
            return False

        try:
            until(healthy)
            yield url
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)


@pytest.fixture
def machine(engine: Engine, tmp_path: Path) -> Iterator[Machine]:
    # The Hub also has a quant and a projector that nobody asks for.
    with FakeHub() as hub:
        other = moe_shards("moe-Q8_0", 1)
        projector = make_projector(tmp_path / "mmproj-F16.gguf")
        commit = hub.publish(REPO, {**SHARDS, **other, projector.name: projector, "README.md": b"# moe\n"})
        machine = Machine(engine=engine, hub=hub, commit=commit, home=tmp_path)
        yield machine
        machine.launcher("stop", "--all")


def test_what_was_pulled_is_served_by_llama_server_and_by_up_without_another_byte(machine: Machine) -> None:
    # By the repo's name: from the Hub, then with the Hub gone.
    paths = machine.launcher("pull", QUANT, "--no-vision")["paths"]
    assert machine.files == SHARDS
    fetched = machine.hub.asked("storage")
    assert {parse_qs(urlsplit(one.path).query)["name"][0] for one in fetched} == set(SHARDS)
    assert {one.authorization for one in fetched} == {None}
    machine.hub.seen.clear()
    with machine.llama_server() as url:
        assert loaded_from(url) == paths[0]
        assert len(complete(url)) == 2
    assert machine.hub.asked("hub", "GET", "/refs")  # it did ask what there is
    assert machine.hub.asked("storage") == []
    machine.hub.close()
    with machine.llama_server("--offline") as url:
        assert loaded_from(url) == paths[0]
    deployment = machine.launcher("up", QUANT, "--offline", "--no-vision", "-c", "512")
    assert loaded_from(deployment["url"]) == paths[0]
    assert len(complete(deployment["url"])) == 2
    with urllib.request.urlopen(f"{deployment['url']}/v1/models") as answer:
        assert len(json.load(answer)["data"]) == 1
    assert machine.files == SHARDS


@pytest.mark.parametrize("who", ["llama-server", "hf"])
def test_what_others_fetched_is_found_by_pull_without_a_byte(machine: Machine, who: str) -> None:
    if who == "hf":
        hf = [Path(sys.executable).with_name("hf"), "download", REPO, "--include", "UD-Q4_K_XL/*"]
        subprocess.run(hf, env=machine.env, capture_output=True, timeout=60, check=True)
    else:
        with machine.llama_server() as url:
            assert len(complete(url)) == 2
        assert {one.authorization for one in machine.hub.asked("hub")} == {f"Bearer {TOKEN}"}
    assert machine.files == SHARDS
    machine.hub.seen.clear()
    paths = machine.launcher("pull", QUANT, "--no-vision")["paths"]
    assert [Path(path).read_bytes() for path in paths] == list(SHARDS.values())
    assert machine.hub.seen
    assert machine.hub.asked("storage") == []


def loaded_from(url: str) -> str:
    with urllib.request.urlopen(f"{url}/props") as answer:
        return str(json.load(answer)["model_path"])


def complete(url: str) -> list[int]:
    """Two tokens: what random weights say is no chat."""
    body = json.dumps({"prompt": "w1 w2", "n_predict": 2, "return_tokens": True, "ignore_eos": True}).encode()
    request = urllib.request.Request(f"{url}/completion", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return list(json.load(answer)["tokens"])
