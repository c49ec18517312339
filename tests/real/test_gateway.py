"""`launcher serve` with real engines: three models and room for two, kills of engines and of the gateway."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from launcher.deployment.ports import free_port
from launcher.deployment.record import Deployment
from launcher.deployment.records import read_all
from launcher.deployment.takedown import take_down
from launcher.engine.find import Engine
from launcher.system.settings import read_settings

pytestmark = pytest.mark.engine

MODELS = ("a", "b", "c")
BUDGET = 900 << 20  # each takes 310 MiB: two fit, three do not
HI: Any = [{"role": "user", "content": "Hi"}]
PATIENCE_S = 240.0

CONFIG = """
[gateway]
max-ram = "900M"
[gateway.aliases]
"gpt-4o" = "a"
"""
A_MODEL = """
[models.{name}]
ref = "{ref}"
context = "512"
slots = 2
flags = ["--cache-ram", "0", "--no-warmup"]
"""


class Served:
    """A gateway in a process of its own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.env = {**os.environ, "LAUNCHER_ENGINE": str(engine.path)}
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "gateway.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "launcher", "serve", "--port", str(self.port), "--progress", "none"],
                env=self.env,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def status(self) -> Any:
        with urllib.request.urlopen(f"{self.url}/gateway/status", timeout=60) as answer:
            return json.load(answer)

    def states(self) -> dict[str, str]:
        return {model["name"]: model["state"] for model in self.status()["models"]}

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="x", max_retries=0, timeout=PATIENCE_S)


@pytest.fixture
def served(engine: Engine, default_model: Path, tmp_path: Path) -> Iterator[Served]:
    settings = read_settings()
    settings.config_file.parent.mkdir(parents=True)
    models = "".join(A_MODEL.format(name=name, ref=default_model) for name in MODELS)
    settings.config_file.write_text(CONFIG + models)
    gateway = Served(engine, tmp_path)
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.end()
        for entry in read_all(settings.deployments_dir):
            take_down(settings.deployments_dir, entry.name, grace_s=0.0)


def running() -> dict[str, Deployment]:
    entries = read_all(read_settings().deployments_dir)
    return {entry.name: entry for entry in entries if isinstance(entry, Deployment)}


def allocated_bytes(log: str) -> int:
    """What an engine's own log says it took."""
    sizes = re.findall(r"buffer size = +([\d.]+) MiB", log)
    return int(sum(map(float, sizes)) * (1 << 20))


def test_three_models_in_room_for_two_with_kills_in_between(served: Served) -> None:
    def ask(model: str) -> str:
        with served.openai() as client:
            stream = client.chat.completions.create(model=model, messages=HI, max_tokens=2, stream=True)
            chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
        return model

    # mixed requests at once; never more in memory than fits
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(ask, "abcaabcb")) == sorted("abcaabcb")
    status = served.status()
    assert status["memory"]["ram"]["held_bytes"] <= BUDGET
    assert status["memory"]["ram"]["capacity_bytes"] <= BUDGET
    assert len(running()) == 2
    logs = [Path(entry.log_path).read_text() for entry in running().values()]
    assert 0 < sum(map(allocated_bytes, logs)) <= BUDGET

    # nobody gets past the gateway to an engine
    for entry in running().values():
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(
                f"{entry.url}/completion", json.dumps({"prompt": "Hi"}).encode(), timeout=60
            )
        assert entry.host == "127.0.0.1"

    # an engine that is killed is started again, and the next request for it is answered
    name, entry = next(iter(running().items()))
    assert entry.process is not None
    os.kill(entry.process.pid, signal.SIGKILL)
    assert ask(name) == name

    # so are models when the gateway is killed: they go on, and the next one adopts them
    before = {name: entry.pid for name, entry in running().items()}
    served.end(signal.SIGKILL)
    assert {name: entry.pid for name, entry in running().items()} == before
    served.start()
    assert {name for name, state in served.states().items() if state == "ready"} == set(before)
    assert [ask(name) for name in before] == list(before)
    assert {name: entry.pid for name, entry in running().items()} == before
    assert served.status()["loads"] == 0

    # one that ends as asked leaves them, too
    assert served.end() == 0
    assert {name: entry.pid for name, entry in running().items()} == before


def test_the_clients_that_users_have(served: Served) -> None:
    with served.openai() as client:
        answer = client.chat.completions.create(
            model="gpt-4o", messages=HI, max_tokens=4, logprobs=True, top_logprobs=2, temperature=0
        )
        assert answer.choices[0].logprobs is not None
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 4
        shaped = client.chat.completions.create(
            model="a",
            messages=HI,
            max_tokens=40,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}},
            },
        )  # fmt: skip
        assert json.loads(shaped.choices[0].message.content or "") == {"n": 7}
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                model="a", messages=[{"role": "user", "content": [{"type": "odd"}]}]
            )  # type: ignore[list-item,misc]
    with anthropic.Anthropic(base_url=served.url, api_key="x", max_retries=0) as asked:
        message = asked.messages.create(model="a", messages=HI, max_tokens=2)
        assert message.usage.output_tokens == 2
        assert asked.messages.count_tokens(model="a", messages=HI).input_tokens > 0
        with asked.messages.stream(model="a", messages=HI, max_tokens=2) as stream:
            assert stream.get_final_message().stop_reason == "max_tokens"
        with pytest.raises(anthropic.NotFoundError, match="no model 'nobody'"):
            asked.messages.create(model="nobody", messages=HI, max_tokens=2)
    speaks = ollama.Client(host=served.url)
    try:
        said = speaks.chat(model="a", messages=HI, options={"num_predict": 3})
        assert (said.eval_count, said.done_reason) == (3, "length")
        assert speaks.generate(model="a", prompt="Once", raw=True, options={"num_predict": 2}).eval_count == 2
        assert [model.model for model in speaks.ps().models] == ["a:latest"]
    finally:
        speaks._client.close()


def test_what_up_started_is_served_and_kept(served: Served, default_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "up", str(default_model), "--name", "mine", "-c", "512", "--cache-ram", "0"],
        env=served.env,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with served.openai() as client:
        answer = client.chat.completions.create(model="mine", messages=HI, max_tokens=2)
        assert answer.usage is not None
        # a and b cannot both be here beside it, and it stays
        for name in ("a", "b"):
            client.chat.completions.create(model=name, messages=HI, max_tokens=1)
    assert "mine" in running()
    assert len(running()) == 2
