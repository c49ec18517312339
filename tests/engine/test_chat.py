import os
import signal
from collections.abc import Callable

import pytest

from launcher.deployment.identity import ProcessId
from launcher.engine.chat import Delta, stream_chat
from launcher.engine.client import generate_token
from launcher.errors import EngineFailed, UsageError

HI = ({"role": "user", "content": "Hi"},)


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
