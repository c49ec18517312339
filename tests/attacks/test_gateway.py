"""Clients that mean ill, before the gateway's own parts and engines that are real processes."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.cli.serve import _lines
from launcher.commands.here import here_with
from launcher.deployment.record import Phase as DeploymentPhase
from launcher.deployment.status import DeploymentState
from launcher.errors import UsageError
from launcher.gateway.admission.state import Phase
from launcher.gateway.deployments import Deployments
from launcher.gateway.engine_http import Address
from launcher.gateway.gateway import Serving
from launcher.gateway.guard import Doors
from launcher.gateway.request_body import _form_field
from launcher.gateway.server import check_tls
from tests.deployment.recorded import a_deployment
from tests.gateway.served import Gateway, Kind, fetch, raw, serving, until

HI = [{"role": "user", "content": "Hi"}]
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with serving(tmp_path, {"a": Kind(0.5), "b": Kind(0.5)}) as served:
        yield served


def connected(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=30)


def sent_before_it_is_cut_off(sender: socket.socket, block: bytes, limit: int) -> int:
    sent = 0
    try:
        while sent < limit:
            sender.sendall(block)
            sent += len(block)
    except OSError:
        pass
    return sent


# ---- what no application sees ----


@pytest.mark.parametrize("begin", [b"0\r\n", b"5;extension="], ids=["trailers", "a chunk's extension"])
def test_what_comes_between_and_behind_chunks_is_bounded(gateway: Gateway, begin: bytes) -> None:
    block = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 200) for i in range(300))
    if begin != b"0\r\n":
        block = b"y" * 65536
    with connected(gateway) as sender:
        sender.sendall(CHUNKED + begin)
        assert sent_before_it_is_cut_off(sender, block, 64 << 20) < 32 << 20


def test_a_body_that_nobody_reads_is_not_taken_for_ever(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.gateway.server._HEAD_S", 0.5)
    with connected(gateway) as sender:
        head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n"
        sender.sendall(head)
        assert b" 404 " in sender.recv(65536)
        ends = time.monotonic() + 20
        while time.monotonic() < ends and sent_before_it_is_cut_off(sender, b"x" * 100, 100):
            time.sleep(0.02)
        assert time.monotonic() < ends


def test_a_refused_body_that_ends_soon_leaves_the_connection_open(gateway: Gateway) -> None:
    with connected(gateway) as sender:
        sender.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
        assert b" 404 " in sender.recv(65536)
        sender.sendall(b"defGET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 " in sender.recv(65536)


def test_a_body_that_trickles_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind()}, body_patience_s=1.0) as gateway, connected(gateway) as sender:
        sender.sendall(POST + b"Content-Length: 100000\r\nConnection: close\r\n\r\n{")
        answered = threading.Event()

        def trickle() -> None:
            while not answered.wait(0.1):
                try:
                    sender.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        answer = sender.recv(65536)
        answered.set()
        thread.join(10)
        assert b" 408 " in answer


def test_an_answer_that_nobody_takes_ends(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.gateway.server._UNREAD_S", 1.0)
    assert fetch(f"{gateway.url}/upstream/a/health")[0] == 200
    with socket.create_server(("127.0.0.1", 0)) as engine:

        def flood() -> None:
            connection, _ = engine.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                sent_before_it_is_cut_off(connection, b"10000\r\n" + b"x" * 65536 + b"\r\n", 1 << 30)

        threading.Thread(target=flood, daemon=True).start()
        move(gateway, "a", engine.getsockname()[1])
        with connected(gateway) as reader:
            reader.sendall(b"GET /upstream/a/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(lambda: bool(gateway.keeper.state.models["a"].n_active))
            until(lambda: not gateway.keeper.state.models["a"].n_active)


def move(gateway: Gateway, name: str, port: int) -> None:
    """Have requests for a model go to another port."""
    process, running = gateway.deployments.processes[name]
    moved = replace(running, address=Address("127.0.0.1", port))
    gateway.deployments.processes[name] = (process, moved)
    gateway.call(lambda: gateway.keeper.running.update({name: moved}))


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(gateway: Gateway, upgrade: bytes) -> None:
    # Java's client sends this with its first request, and a body
    body = json.dumps({"model": "a", "messages": HI, "stream": True}).encode()
    for _ in range(2):
        with connected(gateway) as sender:
            sender.sendall(
                POST + b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
                b"Upgrade: %s\r\nContent-Length: %d\r\n\r\n" % (upgrade, len(body)) + body
            )
            answer = b""
            while b"[DONE]" not in answer:
                block = sender.recv(65536)
                assert block, answer
                answer += block
            assert answer.startswith(b"HTTP/1.1 200 OK")


def test_an_upgrade_from_another_origin_is_refused(gateway: Gateway) -> None:
    answer = raw(
        gateway,
        b"GET /upstream/a/x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 403 ")


def test_a_head_is_answered_and_keeps_nobody_waiting(gateway: Gateway) -> None:
    assert fetch(f"{gateway.url}/upstream/a/health")[0] == 200
    with socket.create_server(("127.0.0.1", 0)) as engine:

        def answer() -> None:
            connection, _ = engine.accept()
            with connection:
                while connection.recv(65536):  # as llama-server: a length, no body, and the connection stays
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        move(gateway, "a", engine.getsockname()[1])
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        connection.request("HEAD", "/upstream/a/health", headers={"Host": "localhost"})
        with connection.getresponse() as response:
            assert response.getheader("content-length") == "15"
        until(lambda: not gateway.keeper.state.models["a"].n_active)
        connection.close()


@pytest.mark.parametrize(
    "hosts", [b"Host: evil\r\nHost: localhost\r\n", b"Host: localhost\r\nHost: evil\r\n"]
)
def test_two_hosts_are_refused(gateway: Gateway, hosts: bytes) -> None:
    answer = raw(gateway, b"GET /v1/models HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_an_image_of_another_page_loads_no_model(gateway: Gateway, site: str) -> None:
    # <img src="http://127.0.0.1:8080/props?model=a"> comes without an Origin
    assert fetch(f"{gateway.url}/props?model=a", {"Sec-Fetch-Site": site})[0] == 403
    assert not gateway.deployments.starts
    assert fetch(gateway.url, {"Sec-Fetch-Site": site})[0] == 200  # a link to the page itself
    assert fetch(f"{gateway.url}/v1/models", {"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_who_leaves_with_another_request_waiting_ends_the_first(tmp_path: Path) -> None:
    with serving(tmp_path, {"slow": Kind(switches=("--slow-token", "90"))}) as gateway:
        body = json.dumps({"model": "slow", "messages": HI, "stream": True}).encode()
        request = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
        with connected(gateway) as sender:
            sender.sendall(request + request)
            until(lambda: gateway.keeper.state.models["slow"].n_active == 1)
            assert sender.recv(10)
        until(lambda: not gateway.app.proxy.exchanges)  # long before the first token


def test_a_deployment_without_its_key_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the gateway did not start, and one that ran saw nothing any more
    entries = (
        a_deployment("one", api_key_file=str(tmp_path / "gone"), phase=DeploymentPhase.READY),
        a_deployment("two", phase=DeploymentPhase.READY),
    )
    monkeypatch.setattr("launcher.gateway.deployments.read_all", lambda _folder: entries)
    seen = SimpleNamespace(state=DeploymentState.RUNNING)
    monkeypatch.setattr("launcher.gateway.deployments.read_status", lambda _entry: seen)
    one, two = Deployments(here_with()).find_all()
    assert (one.name, one.secret, two.name, two.problem) == ("one", None, "two", None)
    assert "gone cannot be read" in (one.problem or "")


def test_a_model_whose_key_is_gone_says_so(gateway: Gateway) -> None:
    assert fetch(f"{gateway.url}/upstream/a/health")[0] == 200
    process, running = gateway.deployments.processes["a"]
    lost = replace(running, secret=None, problem="the API key file k cannot be read")
    gateway.deployments.processes["a"] = (process, lost)
    gateway.call(lambda: gateway.keeper.running.update(a=lost))
    status, answer = fetch(f"{gateway.url}/upstream/a/props")
    assert status == 503
    assert b"a cannot be asked: the API key file k" in answer


def test_names_of_files_reach_the_terminal_escaped() -> None:
    serving = Serving(url="http://127.0.0.1:1", models=("a", "x\x1b[31m\nhint: run this"), needs_key=False)
    assert _lines(serving)[1] == r"models a x\x1b[31m\nhint: run this"


def test_a_fifo_is_no_certificate(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe cannot be used for TLS: it is no regular file"):
        check_tls(tmp_path / "pipe", tmp_path / "pipe")


# ---- bodies ----


def test_a_form_of_many_models_is_read_in_linear_time() -> None:
    # it took minutes for one megabyte, with all others waiting
    assert _form_field(b'name="model"\r\n' * 600_000) is None
    assert (
        _form_field(b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--x--')
        == "whisper"
    )


def test_large_bodies_together_are_bounded(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind()}, most_held_bytes=1 << 20) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        large = json.dumps({"x": "y" * (2 << 20), "model": "a", "messages": HI}).encode()
        status, answer = fetch(url, body=large)
        assert status == 503
        assert json.loads(answer)["error"]["code"] == "requests_too_large"
        ollamas = json.dumps({"model": "a", "prompt": "y" * (2 << 20)}).encode()
        assert fetch(f"{gateway.url}/api/generate", body=ollamas)[0] == 503
        until(lambda: not gateway.app._held.n_bytes)
        assert fetch(url, body=json.dumps({"model": "a", "messages": HI}).encode())[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        {"model": "a", "keep_alive": [1]},
        {"model": "a", "messages": [{"role": "user", "content": "x", "images": 5}]},
        {"model": "a", "messages": [{"role": "user", "content": "x", "images": [{}]}]},
        {"model": "a", "messages": [{"role": "user", "content": "x", "tool_calls": 7}]},
        {"model": "a", "messages": [{"role": "user", "content": "x", "tool_calls": [7]}]},
        {"model": "a", "messages": 5},
        {"model": "a", "messages": [5]},
        {"model": "a", "messages": HI, "options": [1]},
        {"model": {"x": 1}},
        [],
    ],
)
@pytest.mark.parametrize("path", ["chat", "generate", "embed", "show", "pull"])
def test_odd_types_are_no_internal_error(gateway: Gateway, path: str, body: object) -> None:
    status, _ = fetch(f"{gateway.url}/api/{path}", body=json.dumps(body).encode())
    assert status in {200, 400, 404, 501}


@pytest.mark.parametrize(
    "name", ["http://10.0.0.1/x.gguf", "/etc/passwd", "./x", "~/x", "https://e.example/x.gguf"]
)
def test_ollamas_pull_takes_no_address_and_no_path(gateway: Gateway, name: str) -> None:
    for streams in (True, False):
        body = json.dumps({"model": name, "stream": streams}).encode()
        status, answer = fetch(f"{gateway.url}/api/pull", body=body)
        assert status == 400
        assert b"not an address or a path" in answer


# ---- keys ----


def test_a_key_for_one_model_neither_loads_shows_nor_unloads_another(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"sk-one").hexdigest()
    key = {"name": "one", "sha256": digest, "made_at": 1.0, "models": ["a"]}
    (tmp_path / "keys.json").write_text(json.dumps({"schema": 1, "keys": [key]}))
    (tmp_path / "keys.json").chmod(0o600)
    with serving(tmp_path, {"a": Kind(), "b": Kind()}, doors=Doors(needs_key=True)) as gateway:
        gateway.call(lambda: gateway.keeper.load("b"))
        until(lambda: gateway.keeper.state.models["b"].phase is Phase.READY)

        def ask(path: str, **body: object) -> int:
            return fetch(
                f"{gateway.url}{path}", {"Authorization": "Bearer sk-one"}, json.dumps(body).encode()
            )[0]

        assert ask("/api/generate", model="b", keep_alive=0) == 403
        assert ask("/api/chat", model="b", messages=HI, keep_alive=0) == 403
        assert ask("/api/show", model="b") == 403
        assert ask("/api/generate", model="b") == 403
        assert ask("/api/pull", model="new") == 403
        assert ask("/gateway/models/b/unload") == 403
        assert gateway.keeper.state.models["b"].phase is Phase.READY
        assert ask("/api/show", model="a") == 200


def test_a_keys_file_that_breaks_lets_nobody_in(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"sk-all").hexdigest()
    path = tmp_path / "keys.json"
    path.write_text(
        json.dumps({"schema": 1, "keys": [{"name": "k", "sha256": digest, "made_at": 1.0, "models": []}]})
    )
    with serving(tmp_path, {"a": Kind()}, doors=Doors(needs_key=True)) as gateway:

        def ask() -> int:
            return fetch(f"{gateway.url}/v1/models", {"Authorization": "Bearer sk-all"})[0]

        assert ask() == 200
        for broken in ('{"schema": 1', json.dumps({"schema": 1, "keys": []}), "[]", ""):
            path.write_text(broken)
            assert ask() in {401, 500}
        path.unlink()
        assert ask() == 401
