"""LiteLLM's own proxy, with the configuration that `export litellm` writes, before a gateway."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from launcher.deployment.ports import free_port
from launcher.gateway.running_address import written_down
from tests.cli.shell import launcher
from tests.conftest import SETTINGS, STARTED_WITH, missing
from tests.gateway.served import Gateway, Kind, serving
from tests.litellm_proxy import find_litellm

PATIENCE_S = 200.0


@pytest.fixture
def litellm() -> Path:
    program = find_litellm(SETTINGS.cache_dir, STARTED_WITH)
    if program is None:
        raise missing("no LiteLLM (python -m tests.litellm_proxy, or LAUNCHER_TEST_LITELLM)")
    return program


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(tmp_path, {"a": Kind(), "b": Kind()}) as served:
        yield served


def test_its_clients_get_every_model_with_a_key_of_its_own(
    litellm: Path, gateway: Gateway, tmp_path: Path, clean_environment: Path
) -> None:
    with written_down(clean_environment / "launcher" / "state" / "gateway", gateway.url):
        exported = launcher("export", "litellm")
    assert exported.returncode == 0, exported.stderr
    config = tmp_path / "litellm.yaml"
    config.write_text(exported.stdout)
    port = free_port("127.0.0.1")
    log = tmp_path / "litellm.log"
    keys = {
        "LAUNCHER_API_KEY": "none",
        "LITELLM_MASTER_KEY": "sk-its-own-key",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = (
        str(litellm),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    )
    with log.open("wb") as output:
        proxy = subprocess.Popen(command, env={**os.environ, **keys}, stdout=output, stderr=output)
    try:
        until_live(proxy, port, log)
        with openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1",
            api_key="sk-its-own-key",
            max_retries=0,
            timeout=PATIENCE_S,
        ) as client:
            assert sorted(model.id for model in client.models.list()) == ["a", "b"]
            for model in ("a", "b"):
                pieces = client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
                )
                said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
                assert said.startswith("Hello there"), log.read_text()
        with (
            openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-wrong", max_retries=0, timeout=PATIENCE_S
            ) as stranger,
            pytest.raises(openai.APIStatusError),
        ):
            stranger.models.list()
    finally:
        proxy.terminate()
        proxy.wait(60)


def until_live(proxy: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5):
                return
        except OSError:
            assert proxy.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(log.read_text())
