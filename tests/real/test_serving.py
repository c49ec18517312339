"""The running half with the real engine and the default model."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import openai
import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import lives
from launcher.deployment.log_file import follow
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import find_record, read_all
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.takedown import TakenDown, take_down
from launcher.engine.chat import stream_chat
from launcher.engine.client import read_props
from launcher.engine.find import Engine
from launcher.errors import EngineFailed
from tests.serving import SMALL, a_request, python, until

pytestmark = pytest.mark.engine

QUESTION = "What is the capital of France? Answer in English."
"""At temperature 0 the model answers "The capital of France is Paris."; without the second sentence it sings
the Marseillaise, by hand as well."""

BRING_UP = """
import sys, time
from pathlib import Path
from launcher.deployment.deploy import bring_up
from tests.serving import SMALL, a_request
folder, engine, model = sys.argv[1:]
bring_up(Path(folder), a_request("m", (engine, *SMALL), Path(model)))
time.sleep(600)
"""


@pytest.fixture
def command(engine: Engine) -> tuple[str, ...]:
    return (str(engine.path), *SMALL)


def recorded(folder: Path) -> Deployment | None:
    entry = find_record(folder, "m")
    return entry if isinstance(entry, Deployment) else None


def is_ready(folder: Path) -> bool:
    entry = recorded(folder)
    return entry is not None and entry.phase is Phase.READY


def test_a_deployment_from_up_to_stop(
    deployments: Path, command: tuple[str, ...], default_model: Path
) -> None:
    deployment = bring_up(deployments, a_request("m", (*command, "--alias", "smollm2"), default_model))
    assert read_status(deployment).state is DeploymentState.RUNNING
    assert read_props(deployment.url).n_ctx == 512
    hello = [{"role": "user", "content": QUESTION}]
    options = {"temperature": 0, "max_tokens": 24}
    answer = "".join(p.text for p in stream_chat(deployment.url, hello, model="smollm2", options=options))
    assert "Paris" in answer
    assert deployment.pid is not None
    assert take_down(deployments, "m") == TakenDown(name="m", was=DeploymentState.RUNNING, pid=deployment.pid)
    assert not lives(deployment.pid)
    logged = list(follow(Path(deployment.log_path), ended=lambda: True))
    assert any("listening on" in line for line in logged)
    assert "cleaning up before exit" in logged[-1]


def test_the_openai_client_chats_and_lists_models(
    deployments: Path, command: tuple[str, ...], default_model: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-local\n")
    flags = ("--alias", "smollm2-135m", "--api-key-file", str(keys))
    request = a_request("m", (*command, *flags), default_model, api_key_file=keys)
    deployment = bring_up(deployments, request)
    with openai.OpenAI(base_url=f"{deployment.url}/v1", api_key="sk-local") as client:
        assert [model.id for model in client.models.list()] == ["smollm2-135m"]
        stream = client.chat.completions.create(
            model="smollm2-135m",
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=16,
            temperature=0,
            stream=True,
        )
        chunks = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(chunks) > 2
    assert "Paris" in "".join(chunks)


def test_kill_9_of_the_server_is_seen(
    deployments: Path, command: tuple[str, ...], default_model: Path
) -> None:
    deployment = bring_up(deployments, a_request("m", command, default_model))
    assert deployment.pid is not None
    os.kill(deployment.pid, signal.SIGKILL)
    until(
        lambda: (
            (entry := recorded(deployments)) is not None
            and read_status(entry).state is DeploymentState.FAILED
        )
    )
    assert take_down(deployments, "m").was is DeploymentState.FAILED
    assert read_all(deployments) == ()


def test_kill_9_of_the_launcher_leaves_a_server_that_can_be_stopped(
    deployments: Path, engine: Engine, default_model: Path
) -> None:
    with python(BRING_UP, str(deployments), str(engine.path), str(default_model)) as launcher:
        until(lambda: is_ready(deployments))
        launcher.kill()
    left = recorded(deployments)
    assert left is not None
    assert read_status(left).state is DeploymentState.RUNNING
    assert read_props(left.url).n_slots == 1
    assert left.pid is not None
    assert take_down(deployments, "m") == TakenDown(name="m", was=DeploymentState.RUNNING, pid=left.pid)
    assert not lives(left.pid)


@pytest.fixture
def truncated(request: pytest.FixtureRequest, default_model: Path, tmp_path: Path) -> Path:
    """Return the model, cut short."""
    path = tmp_path / "broken.gguf"
    with default_model.open("rb") as whole:
        path.write_bytes(whole.read(request.param))
    return path


@pytest.mark.parametrize(
    ("truncated", "sentence"),
    [
        (20_000_000, "m: the model file is incomplete: tensor token_embd.weight lies beyond its end"),
        (300, "m: the model file's header is damaged: failed to read key-value pairs"),
        (0, "m: the model file's header is damaged: failed to read magic"),
    ],
    indirect=["truncated"],
)
def test_a_truncated_model_is_named(
    deployments: Path, command: tuple[str, ...], truncated: Path, sentence: str
) -> None:
    with pytest.raises(EngineFailed) as caught:
        bring_up(deployments, a_request("m", command, truncated))
    assert caught.value.message == sentence
    assert read_all(deployments) == ()


def test_memory_that_is_not_there_is_named(
    deployments: Path, command: tuple[str, ...], default_model: Path
) -> None:
    limited = ("/bin/sh", "-c", 'ulimit -v 16000000; exec "$@"', "sh", *command)
    with pytest.raises(EngineFailed) as caught:
        bring_up(deployments, a_request("m", (*limited, "-c", "1000000", "-np", "1"), default_model))
    assert caught.value.message.startswith("m: llama-server ran out of memory: it could not allocate 2")
    assert read_all(deployments) == ()
