"""What listens on a server's port may be another program: its answers are bounded, and may be anything."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from launcher.engine.chat import stream_chat
from launcher.engine.client import list_model_ids, read_metrics, read_props
from launcher.errors import EngineFailed

Serve = Callable[[bytes, bytes], str]
OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"\r\n"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answer every request with `first`, then `again` without an end if there is any; return the URL."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer(first: bytes, again: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                with client, contextlib.suppress(OSError):
                    client.recv(65536)
                    client.sendall(first)
                    while again:
                        client.sendall(again)

    def start(first: bytes, again: bytes = b"") -> str:
        threading.Thread(target=answer, args=(first, again), daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.mark.parametrize("ask", [read_props, read_metrics, list_model_ids])
@pytest.mark.parametrize("status", [b"200 OK", b"500 No"])
def test_an_answer_without_an_end_is_given_up(
    serve: Serve, ask: Callable[[str], object], status: bytes
) -> None:
    url = serve(b"HTTP/1.1 " + status + b"\r\n\r\n", b" " * 65536)
    with pytest.raises(EngineFailed, match="sent more than"):
        ask(url)


def test_a_streamed_line_without_an_end_is_given_up(serve: Serve) -> None:
    url = serve(PLAIN + b"data: ", b"x" * 65536)
    with pytest.raises(EngineFailed, match="a line of more than"):
        list(stream_chat(url, [], model="m"))


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices": 5}',
        b'{"choices": [5]}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [{"delta": 5}]}',
        b'{"timings": []}',
        b'{"timings": {"predicted_per_second": "fast"}}',
        b'{"timings": {"predicted_per_second": 1' + b"0" * 400 + b"}}",
        b"[]",
        b"[" * 100_000,
        b"5",
    ],
)
def test_a_piece_of_an_answer_that_is_none_is_said(serve: Serve, event: bytes) -> None:
    url = serve(PLAIN + b"data: " + event + b"\n\n", b"")
    with pytest.raises(EngineFailed):
        list(stream_chat(url, [], model="m"))


def test_nothing_is_unpacked(serve: Serve) -> None:
    url = serve(OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", b"")
    assert read_props(url).n_ctx is None
