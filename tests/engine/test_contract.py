"""What the fake engine and the real one have in common; the fake is believed because both pass."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from launcher.deployment.identity import Presence, find_presence
from launcher.deployment.ports import free_port
from launcher.deployment.process import reap_process, stop_process
from launcher.engine.chat import stream_chat
from launcher.engine.client import Props, generate_token, is_loaded, list_model_ids, read_props
from launcher.engine.log.cause import CauseKind
from launcher.engine.log.diagnose import diagnose
from launcher.engine.protocol import EXIT, Reports
from launcher.errors import UsageError
from tests.serving import SMALL, fake_command, running, stub_model, until


@dataclass(frozen=True)
class Kind:
    """An engine's command line and a model it loads."""

    command: tuple[str, ...]
    model: Path


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    if request.param == "fake":
        return Kind(fake_command(*SMALL), stub_model(tmp_path))
    engine = request.getfixturevalue("engine")
    return Kind((str(engine.path), *SMALL), request.getfixturevalue("default_model"))


@pytest.fixture
def url(kind: Kind, tmp_path: Path) -> Iterator[str]:
    """A server with a key and an alias, loaded."""
    keys = tmp_path / "keys"
    keys.write_text("sk-1\n")
    port = free_port("127.0.0.1")
    served = ("-m", str(kind.model), "--port", str(port), "--alias", "mine", "--api-key-file", str(keys))
    with running(*kind.command, *served, log=tmp_path / "engine.log"):
        address = f"http://127.0.0.1:{port}"
        until(lambda: is_loaded(address))
        yield address


def ended(kind: Kind, *flags: str, log: Path) -> CauseKind:
    """Run to the end; the cause that is read from log and status 1."""
    with running(*kind.command, *flags, log=log) as process:
        until(lambda: find_presence(process) is Presence.GONE)
        status = reap_process(process)
    assert status == 1
    return diagnose(log.read_text(errors="replace"), status).kind


def test_failures_have_their_cause(kind: Kind, tmp_path: Path) -> None:
    log, noise = tmp_path / "a.log", tmp_path / "noise.gguf"
    noise.write_bytes(bytes(range(256)) * 64)
    port = ("--port", str(free_port("127.0.0.1")))
    assert ended(kind, "-m", str(kind.model), "--no-such-flag", log=log) is CauseKind.UNKNOWN_FLAG
    assert ended(kind, *port, "-m", str(noise), log=log) is CauseKind.BAD_FILE
    assert ended(kind, *port, "-m", str(tmp_path / "absent.gguf"), log=log) is CauseKind.BAD_FILE
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        assert ended(kind, "--port", taken, "-m", str(kind.model), log=log) is CauseKind.PORT_IN_USE


def test_sigterm_ends_a_loaded_server_with_status_0(kind: Kind, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    served = ("-m", str(kind.model), "--port", str(port))
    with running(*kind.command, *served, log=tmp_path / "a.log") as process:
        until(lambda: is_loaded(f"http://127.0.0.1:{port}"))
        generate_token(f"http://127.0.0.1:{port}")
        assert stop_process(process, marker="test")
        assert find_presence(process) is Presence.GONE
    assert "cleaning up before exit" in (tmp_path / "a.log").read_text()


def test_its_own_account(url: str) -> None:
    assert list_model_ids(url, api_key="sk-1") == ("mine",)
    told = read_props(url, api_key="sk-1")
    assert (told.n_ctx, told.n_slots) == (512, 1)
    assert isinstance(told, Props)


def test_without_the_key_only_health_answers(url: str) -> None:
    assert is_loaded(url)
    for call in (list_model_ids, read_props, generate_token):
        with pytest.raises(UsageError, match="refuses the API key: Invalid API Key"):
            call(url)


def test_a_chat_is_streamed(url: str) -> None:
    hello = [{"role": "user", "content": "Say hello."}]
    options = {"max_tokens": 4, "temperature": 0}
    pieces = list(stream_chat(url, hello, model="mine", api_key="sk-1", options=options))
    assert len([piece for piece in pieces if piece.text]) in {3, 4}  # a token may be half a character
    assert pieces[-1].finish_reason == "length"
    assert (pieces[-1].tokens_per_s or 0) > 0
    with pytest.raises(UsageError, match="refuses the request: Expected 'content' to be a string"):
        list(stream_chat(url, [{"role": "user", "content": 3}], model="mine", api_key="sk-1"))


def test_events_have_the_same_fields(url: str) -> None:
    headers = {"Authorization": "Bearer sk-1"}
    body = {"prompt": "Hi", "n_predict": 1, "stream": True}
    raw = httpx2.post(f"{url}/completion", json=body, headers=headers, trust_env=False).text
    first = json.loads(raw.partition("data: ")[2].partition("\n")[0])
    assert {"index", "content", "stop", "tokens_predicted"} <= set(first)
    error = httpx2.post(f"{url}/v1/chat/completions", json={}, headers=headers, trust_env=False)
    assert error.status_code == 400
    assert set(error.json()["error"]) == {"code", "message", "type"}


@pytest.fixture
def child(kind: Kind, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Started as a supervisor starts it: under the child protocol, with pipes."""
    served = ("-m", str(kind.model), "--port", str(free_port("127.0.0.1")))
    with (tmp_path / "child.log").open("wb") as log:
        started = subprocess.Popen(
            [*kind.command, *served],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "LLAMA_SERVER_ROUTER_PORT": "1"},
        )
    yield started
    started.kill()
    started.wait()
    for pipe in (started.stdin, started.stdout):
        if pipe is not None:
            pipe.close()


def told(child: subprocess.Popen[bytes]) -> Reports:
    """What it said until it was ready."""
    reports = Reports()
    assert child.stdout is not None
    while not reports.is_ready:
        line = child.stdout.readline()
        assert line, "it ended before it was ready"
        reports.add(line)
    return reports


def test_a_child_tells_its_load_and_exits_when_told(child: subprocess.Popen[bytes]) -> None:
    """It says it is ready just before its loop begins (tools/server/server.cpp), and forgets an exit that comes in
    between (seen under load): a token proves that the loop runs. The supervisor's grace covers the rest.
    """
    assert told(child).loaded == 1.0
    generate_token(f"http://127.0.0.1:{child.args[-1]}")  # type: ignore[index]
    assert child.stdin is not None
    child.stdin.write(EXIT)
    child.stdin.flush()
    assert child.wait(60) == 0


def test_a_child_ends_when_its_pipe_closes(child: subprocess.Popen[bytes]) -> None:
    told(child)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(60) == 1
