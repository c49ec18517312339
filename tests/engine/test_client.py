import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.deployment.identity import ProcessId
from launcher.deployment.ports import free_port
from launcher.engine.client import (
    Delta,
    Props,
    generate_token,
    is_loaded,
    list_model_ids,
    read_api_key,
    read_props,
    stream_chat,
)
from launcher.errors import EngineFailed, UsageError
from tests.serving import fake_command, running, stub_model, until

HI = ({"role": "user", "content": "Hi"},)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[str, ProcessId]]]:
    """Start a fake engine with switches; its URL and process once it is loaded."""
    with contextlib.ExitStack() as stack:

        def start(*switches: str) -> tuple[str, ProcessId]:
            port = free_port("127.0.0.1")
            command = fake_command("-m", str(stub_model(tmp_path)), "--port", str(port), *switches)
            process = stack.enter_context(running(*command, log=tmp_path / "engine.log"))
            url = f"http://127.0.0.1:{port}"
            until(lambda: is_loaded(url))
            return url, process

        yield start


def test_an_answer_comes_piece_by_piece(serve: Callable[..., tuple[str, ProcessId]]) -> None:
    url, _ = serve()
    pieces = list(stream_chat(url, HI, model="m", options={"max_tokens": 5}))
    assert "".join(piece.text for piece in pieces) == "Hello there, world\u2028line"
    assert pieces[-1] == Delta(finish_reason="length", tokens_per_s=100.0)


def test_what_is_wrong_with_a_request_is_a_usage_error(serve: Callable[..., tuple[str, ProcessId]]) -> None:
    url, _ = serve()
    with pytest.raises(UsageError, match=r"refuses the request: Expected 'content' to be a string"):
        list(stream_chat(url, [{"role": "user", "content": 3}], model="m"))


def test_a_chat_parser_that_fails_is_one_sentence(serve: Callable[..., tuple[str, ProcessId]]) -> None:
    url, _ = serve("--fail-chat")
    with pytest.raises(EngineFailed, match=r"^llama-server failed to answer: Failed to parse input at pos 0"):
        list(stream_chat(url, HI, model="m"))
    generate_token(url)


def test_a_connection_lost_midway_is_said(serve: Callable[..., tuple[str, ProcessId]]) -> None:
    url, process = serve("--slow-token", "0.2")
    pieces = stream_chat(url, HI, model="m")
    assert next(pieces).text == "Hello"
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineFailed, match=r"the connection to llama-server .* was lost"):
        list(pieces)


def test_the_key_is_sent(serve: Callable[..., tuple[str, ProcessId]], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\n\nsk-1\nsk-2\n")
    url, _ = serve("--api-key-file", str(keys), "--alias", "mine")
    assert list_model_ids(url, api_key=read_api_key(keys)) == ("mine",)
    generate_token(url, api_key="sk-2")
    for call in (list_model_ids, read_props, generate_token):
        with pytest.raises(UsageError, match="llama-server refuses the API key: Invalid API Key"):
            call(url, api_key="wrong")


def test_the_server_describes_itself(serve: Callable[..., tuple[str, ProcessId]], tmp_path: Path) -> None:
    url, _ = serve("-c", "777", "-np", "3")
    path = str(tmp_path / "stub.gguf")
    assert read_props(url) == Props(n_ctx=777, n_slots=3, model_path=path, build="b0-fake")


def test_nobody_there_is_said() -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    assert is_loaded(url) is None
    with pytest.raises(EngineFailed, match=f"^nobody answers at {url}$"):
        list_model_ids(url)


@pytest.mark.parametrize("content", [None, b"", b"# only a comment\n", b"\xff\xfe"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="the API key file"):
        read_api_key(path)
    assert read_api_key(None) is None


def test_proxies_of_the_environment_are_ignored(
    serve: Callable[..., tuple[str, ProcessId]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    url, _ = serve()
    assert len(list_model_ids(url)) == 1
