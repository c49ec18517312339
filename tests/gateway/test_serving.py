"""The gateway's own parts together, before engines that are real processes without llama.cpp."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ollama
import openai
import psutil
import pytest

from launcher.engine.client import is_loaded
from launcher.gateway.admission.state import Phase, Policy
from launcher.gateway.config import GatewayConfig, ModelConfig
from launcher.gateway.engine_http import Address
from launcher.gateway.guard import Doors
from launcher.gateway.silence import SilenceLimits
from tests.gateway.served import SECRET, Gateway, Kind, fetch, raw, serving, until

SAID = "Hello there, world\u2028line!"
HI = [{"role": "user", "content": "Hi"}]
CHAT = b'{"model": "%s", "messages": [{"role": "user", "content": "Hi"}]}'


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    kinds = {
        "a": Kind(1.5),
        "b": Kind(1.5),
        "c": Kind(0.4),
        "broken": Kind(0.1, fails="the file is cut short"),
    }
    with serving(tmp_path, kinds) as served:
        yield served


def client_of(gateway: Gateway, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="made-up", max_retries=0, **options)


def said(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def chat(gateway: Gateway, model: str, **more: Any) -> str:
    with client_of(gateway) as client:
        return said(client.chat.completions.create(model=model, messages=HI, stream=True, **more))  # type: ignore[call-overload]


def test_a_model_is_loaded_by_the_first_request_for_it(gateway: Gateway) -> None:
    assert chat(gateway, "a") == SAID
    assert chat(gateway, "a") == SAID
    assert gateway.deployments.starts == ["a"]


def test_models_are_swapped_by_memory(gateway: Gateway) -> None:
    for name in ("a", "c", "b", "c", "a"):
        assert chat(gateway, name) == SAID
    # c fits beside either of the others and is loaded once
    assert gateway.deployments.starts == ["a", "c", "b", "a"]
    assert gateway.deployments.most_held_gib <= 2.0


def test_many_mixed_requests_are_all_answered_within_the_budget(tmp_path: Path) -> None:
    kinds = {name: Kind(0.9, slots=2) for name in "abc"}
    with serving(tmp_path, kinds, policy=Policy(slack_bytes=0, patience_s=0.5)) as gateway:
        names = ["abcabbaaccab"[i % 12] for i in range(60)]
        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(lambda name: chat(gateway, name), names)) == {SAID}
        assert gateway.deployments.most_held_gib <= 2.0
        assert len(gateway.deployments.starts) < 40
        state = gateway.keeper.state
        assert not state.active
        assert not state.waiting


def test_the_same_bytes_as_the_engine_sends(gateway: Gateway) -> None:
    body = json.dumps({"messages": HI, "model": "a", "stream": True}).encode()
    through = fetch(f"{gateway.url}/v1/chat/completions", {}, body)
    running = gateway.keeper.running["a"]
    direct = fetch(
        f"http://127.0.0.1:{running.address.port}/v1/chat/completions",
        {"Authorization": f"Bearer {SECRET}"},
        body,
    )
    assert through == direct


def test_the_engine_answers_nobody_who_goes_around_the_gateway(gateway: Gateway) -> None:
    chat(gateway, "a")
    port = gateway.keeper.running["a"].address.port
    status, _ = fetch(f"http://127.0.0.1:{port}/v1/models")
    assert status == 401


def test_who_waits_for_a_load_gets_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.gateway.proxy._COMMENT_S", 0.2)
    with serving(tmp_path, {"slow": Kind(load_s=1.5)}) as gateway:
        body = json.dumps({"messages": HI, "model": "slow", "stream": True}).encode()
        status, answer = fetch(f"{gateway.url}/v1/chat/completions", {}, body)
        lines = answer.decode().splitlines()
        comments = [line for line in lines if line.startswith(":")]
        assert status == 200
        assert any("loading" in line and "load 25 %" in line for line in comments)
        assert lines[-2] == "data: [DONE]"
        # clients read over them
        gateway.call(lambda: gateway.keeper.unload("slow"))
        until(lambda: gateway.keeper.state.models["slow"].phase is Phase.OUT)
        assert chat(gateway, "slow") == SAID


def test_a_load_that_fails_answers_with_the_diagnosis(gateway: Gateway) -> None:
    with pytest.raises(openai.InternalServerError, match="the file is cut short") as caught:
        chat(gateway, "broken")
    assert caught.value.status_code == 503
    assert caught.value.code == "load_failed"
    # at once, without a second try
    with pytest.raises(openai.InternalServerError, match="the file is cut short"):
        chat(gateway, "broken")
    assert chat(gateway, "a") == SAID


def test_a_load_that_fails_under_a_stream_ends_it_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.gateway.proxy._COMMENT_S", 0.1)
    with (
        serving(tmp_path, {"broken": Kind(load_s=1.0, fails="no such tensor")}) as gateway,
        client_of(gateway) as client,
        pytest.raises(openai.APIError, match="no such tensor"),
    ):
        said(client.chat.completions.create(model="broken", messages=HI, stream=True))  # type: ignore[arg-type]


def test_an_unknown_model_is_named_with_those_like_it(gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError, match="'brokn' here; there is broken"):
        chat(gateway, "brokn")


def test_a_model_that_never_fits_is_refused_at_once(tmp_path: Path) -> None:
    with (
        serving(tmp_path, {"huge": Kind(3.0)}) as gateway,
        pytest.raises(openai.BadRequestError, match="more than"),
    ):
        chat(gateway, "huge")


def test_a_plan_that_does_not_fit_is_the_clients_business(tmp_path: Path) -> None:
    with serving(tmp_path, {"huge": Kind(unplanned="huge does not fit")}) as gateway:
        for _ in range(2):
            with pytest.raises(openai.BadRequestError, match="does not fit") as caught:
                chat(gateway, "huge")
            assert caught.value.code == "does_not_fit"


def test_a_load_that_others_were_quicker_than_may_be_tried_later(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(fails="a does not fit")}) as gateway:
        with pytest.raises(openai.InternalServerError, match="does not fit") as caught:
            chat(gateway, "a")
        assert (caught.value.status_code, caught.value.code) == (503, "short_of_memory")
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 10


def test_a_smaller_plan_spares_the_model_that_is_here(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(1.5), "b": Kind(1.5, small_gib=0.5)}) as gateway:
        for name in "abab":
            assert chat(gateway, name) == SAID
        assert gateway.deployments.starts == ["a", "b"]
        assert gateway.deployments.most_held_gib <= 2.0


def test_a_planner_out_of_order_holds_nobody_up(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(1.5), "b": Kind(1.5, small_gib=0.0)}) as gateway:
        for name in "aba":
            assert chat(gateway, name) == SAID
        assert gateway.deployments.starts == ["a", "b", "a"]


def test_aliases_and_the_default(tmp_path: Path) -> None:
    config = GatewayConfig(default="a", aliases={"gpt-4o": "b"})
    with serving(tmp_path, {"a": Kind(), "b": Kind()}, config=config) as gateway:
        assert chat(gateway, "gpt-4o") == SAID
        assert chat(gateway, "whatever") == SAID
        assert gateway.deployments.starts == ["b", "a"]


def test_a_client_that_leaves_ends_its_answer_within_a_second(tmp_path: Path) -> None:
    with serving(tmp_path, {"slow": Kind(switches=("--slow-token", "0.5"))}) as gateway:
        chat(gateway, "slow", max_tokens=1)
        with client_of(gateway) as client:
            stream = client.chat.completions.create(model="slow", messages=HI, stream=True)  # type: ignore[arg-type]
            next(iter(stream))
            assert gateway.keeper.state.models["slow"].n_active == 1
            stream.close()
        began = time.monotonic()
        until(lambda: not gateway.keeper.state.models["slow"].n_active)
        assert time.monotonic() - began < 1.0
        assert not gateway.app.proxy.exchanges


def test_a_client_that_leaves_while_it_waits_gives_its_place_up(tmp_path: Path) -> None:
    with serving(tmp_path, {"slow": Kind(load_s=2.0)}) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
        connection.request("POST", "/v1/chat/completions", json.dumps({"messages": HI, "model": "slow"}))
        until(lambda: len(gateway.keeper.state.waiting) == 1)
        connection.close()
        until(lambda: not gateway.keeper.state.waiting)


def test_an_engine_that_was_killed_is_started_again(gateway: Gateway) -> None:
    assert chat(gateway, "a") == SAID
    gateway.deployments.kill("a")
    assert chat(gateway, "a") == SAID
    assert gateway.deployments.starts == ["a", "a"]


def test_who_asks_an_engine_that_is_started_again_waits_for_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.gateway.proxy._COMMENT_S", 0.1)
    assert chat(gateway, "a") == SAID
    gateway.deployments.start_again("a", load_s=2.0)
    port = gateway.deployments.processes["a"][1].address.port
    until(lambda: is_loaded(f"http://127.0.0.1:{port}") is False)  # it listens, and answers 503
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions",
        json.dumps({"model": "a", "messages": HI, "stream": True}).encode(),
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = answer.read()
    assert b": a is being started again; 0 requests wait" in lines
    assert lines.endswith(b"data: [DONE]\n\n")
    assert chat(gateway, "a") == SAID
    assert gateway.deployments.starts == ["a"]


def test_an_engine_killed_in_an_answer_breaks_that_answer_only(tmp_path: Path) -> None:
    with serving(tmp_path, {"slow": Kind(switches=("--slow-token", "0.3")), "b": Kind()}) as gateway:
        with client_of(gateway) as client:
            stream = client.chat.completions.create(model="slow", messages=HI, stream=True)  # type: ignore[arg-type]
            iterator = iter(stream)
            next(iterator)
            gateway.deployments.kill("slow")
            with pytest.raises(openai.APIError, match="broke off"):
                list(iterator)
        assert chat(gateway, "b") == SAID
        assert chat(gateway, "slow") == SAID


def test_an_answer_in_one_piece_that_breaks_off_is_an_error_to_ollamas_clients(tmp_path: Path) -> None:
    with serving(tmp_path, {"slow": Kind(switches=("--slow-token", "0.3"))}) as gateway:
        assert chat(gateway, "slow") == SAID
        client = ollama.Client(host=gateway.url)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.chat, model="slow", messages=HI)
            until(lambda: any(each.has_head for each in gateway.app.proxy.exchanges.values()))
            gateway.deployments.kill("slow")
            with pytest.raises(ollama.ResponseError, match="broke off") as raised:
                asked.result()
        assert raised.value.status_code == 503
        client._client.close()


def test_kills_lose_nothing_but_what_the_killed_were_answering(tmp_path: Path) -> None:
    kinds = {name: Kind(0.9, slots=2, switches=("--slow-token", "0.02")) for name in "abc"}
    with serving(tmp_path, kinds, policy=Policy(slack_bytes=0, patience_s=0.5)) as gateway:
        kills = 0

        def ask(index: int) -> str:
            try:
                return chat(gateway, "abcabbaaccab"[index % 12])
            except openai.APIError as error:
                return error.message

        with ThreadPoolExecutor(8) as pool:
            asked = pool.map(ask, range(120))
            for _ in range(4):
                time.sleep(2)
                models = gateway.keeper.state.models
                for name in [name for name, model in models.items() if model.phase is Phase.READY][:1]:
                    with contextlib.suppress(KeyError):  # it has just been unloaded
                        gateway.deployments.kill(name)
                        kills += 1
            outcomes = list(asked)
        lost = [outcome for outcome in outcomes if outcome != SAID]
        assert kills
        assert len(lost) <= kills * 2  # the slots of each
        assert all("broke off" in outcome for outcome in lost), set(lost)
        assert gateway.deployments.most_held_gib <= 2.0
        assert not gateway.keeper.state.waiting
        assert not gateway.keeper.state.active


def test_idle_models_go_and_pinned_ones_stay(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(), "b": Kind()}, config=GatewayConfig(idle_s=0.5)) as gateway:
        chat(gateway, "a")
        until(lambda: gateway.keeper.state.models["a"].phase is Phase.OUT)
        assert not gateway.deployments.processes


def test_what_runs_is_adopted_and_outlives_the_gateway(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind()}) as gateway:
        chat(gateway, "a")
        process, running = gateway.deployments.processes["a"]
        gateway.deployments.processes.clear()  # the next finds it by its record
    assert process.poll() is None
    try:
        with serving(tmp_path, {"a": Kind()}) as again:
            again.deployments.processes["a"] = (process, running)
            until(lambda: again.keeper.state.models["a"].phase is Phase.READY)
            assert chat(again, "a") == SAID
            assert not again.deployments.starts
    finally:
        process.kill()
        process.wait()


def test_models_are_listed_with_their_state(gateway: Gateway) -> None:
    chat(gateway, "a")
    with client_of(gateway) as client:
        models = {model.id: model for model in client.models.list()}
        assert client.models.retrieve("a").id == "a"
    assert set(models) == {"a", "b", "c", "broken"}
    states = {name: model.status["value"] for name, model in models.items()}  # type: ignore[attr-defined]
    assert states == {"a": "loaded", "b": "unloaded", "c": "unloaded", "broken": "unloaded"}
    assert models["a"].context_length == 4096  # type: ignore[attr-defined]


def test_metrics_and_status_count(gateway: Gateway) -> None:
    chat(gateway, "a")
    until(lambda: gateway.app.counters.by_model["a"].requests == 1)
    _, metrics = fetch(f"{gateway.url}/metrics")
    assert 'launcher_requests_total{model="a"} 1' in metrics.decode()
    _, status = fetch(f"{gateway.url}/gateway/status")
    memory = json.loads(status)["memory"]
    assert memory["ram"]["capacity_bytes"] == 2 << 30
    assert memory["ram"]["held_bytes"] == 3 << 29
    assert json.loads(status)["answered"][0]["tokens_per_s"] == 100.0


def test_upstream_reaches_an_engine_by_name(gateway: Gateway) -> None:
    status, props = fetch(f"{gateway.url}/upstream/a/props")
    assert (status, json.loads(props)["build_info"]) == (200, "b0-fake")
    status, props = fetch(f"{gateway.url}/props?model=a")
    assert (status, json.loads(props)["build_info"]) == (200, "b0-fake")


def test_64_streams_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(slots=64)}) as gateway, ThreadPoolExecutor(64) as pool:
        assert set(pool.map(lambda _: chat(gateway, "a"), range(64))) == {SAID}


def test_the_page_runs_its_own_script_and_no_other(gateway: Gateway) -> None:
    request = urllib.request.Request(gateway.url, headers={"Accept": "text/html,*/*"})
    with urllib.request.urlopen(request) as answer:
        text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "innerHTML" not in script
    assert fetch(gateway.url)[1] == b"Ollama is running"


def test_models_are_loaded_pinned_and_unloaded_by_hand(gateway: Gateway) -> None:
    def act(verb: str) -> int:
        return fetch(f"{gateway.url}/gateway/models/c/{verb}", {}, b"")[0]

    assert act("load") == 202
    until(lambda: gateway.keeper.state.models["c"].phase is Phase.READY)
    assert act("pin") == 202
    assert gateway.keeper.state.models["c"].pinned
    assert act("unpin") == 202
    assert not gateway.keeper.state.models["c"].pinned
    assert act("unload") == 202
    until(lambda: gateway.keeper.state.models["c"].phase is Phase.OUT)
    assert act("explode") == 404


# ---- Ollama's client ----


@pytest.fixture
def client(gateway: Gateway) -> Iterator[ollama.Client]:
    made = ollama.Client(host=gateway.url)
    yield made
    made._client.close()


def test_ollama_chats_generates_and_lists(client: ollama.Client) -> None:
    streamed = list(client.chat(model="a", messages=HI, stream=True))
    assert "".join(each.message.content or "" for each in streamed) == SAID
    assert streamed[-1].done
    assert streamed[-1].done_reason == "stop"
    assert client.chat(model="a:latest", messages=HI).message.content == SAID
    assert client.generate(model="a", prompt="Hi").response == SAID
    assert client.generate(model="a", prompt="Hi", options={"num_predict": 2}).done_reason == "length"
    assert {model.model for model in client.list().models} == {
        "a:latest",
        "b:latest",
        "c:latest",
        "broken:latest",
    }
    [running] = client.ps().models
    assert running.model == "a:latest"
    assert running.context_length == 4096
    assert client.show("a").capabilities == ["completion", "tools"]


def test_ollama_pulls_with_progress(gateway: Gateway, client: ollama.Client) -> None:
    steps = list(client.pull("new:latest", stream=True))
    assert steps[0].status == "pulling manifest"
    assert [(step.completed, step.total) for step in steps if step.total] == [(0, 100), (50, 100), (100, 100)]
    assert steps[-1].status == "success"
    assert "new:latest" in {model.model for model in client.list().models}
    assert client.pull("new").status == "success"
    with pytest.raises(ollama.ResponseError, match="there is no other anywhere"):
        client.pull("other")
    with pytest.raises(ollama.ResponseError, match="there is no other anywhere"):
        list(client.pull("other", stream=True))


def test_ollamas_errors_are_its_own(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        client.chat(model="nobody", messages=HI)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="cut short"):
        client.chat(model="broken", messages=HI)


def test_ollama_loads_and_unloads_without_a_question(gateway: Gateway, client: ollama.Client) -> None:
    assert client.generate(model="c").done_reason == "load"
    until(lambda: gateway.keeper.state.models["c"].phase is Phase.READY)
    assert client.generate(model="c", keep_alive=0).done_reason == "unload"
    until(lambda: gateway.keeper.state.models["c"].phase is Phase.OUT)


# ---- attacks ----


def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind()}, most_body_bytes=1000) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        status, answer = fetch(url, {}, json.dumps({"model": "a", "x": "y" * 2000}).encode())
        assert status == 413
        assert json.loads(answer)["error"]["code"] == "body_too_large"
        chunk = b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"  # not announced
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        assert b" 413 " in raw(gateway, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)


def test_a_large_body_goes_through_in_pieces(gateway: Gateway) -> None:
    # the model comes last, behind 6 MB
    body = json.dumps(
        {"messages": [{"role": "user", "content": "x" * 6_000_000}], "stream": True, "model": "a"}
    )
    status, answer = fetch(f"{gateway.url}/v1/chat/completions", {}, body.encode())
    assert status == 200
    assert answer.endswith(b"data: [DONE]\n\n")


def test_slow_headers_are_not_waited_for(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.gateway.server._HEAD_S", 0.5)
    began = time.monotonic()
    assert raw(gateway, b"GET /health HTTP/1.1\r\nHost: localh") == b""
    assert time.monotonic() - began < 20


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind()}, body_patience_s=0.5) as gateway:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
        assert b" 408 " in raw(gateway, head + b'{"mod')


def test_a_body_that_drips_is_not_waited_for(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.gateway.client._MOST_BODY_S", 1.0)
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sender:
        sender.sendall(head)
        sender.settimeout(0.2)
        answer, began = b"", time.monotonic()
        while not answer and time.monotonic() - began < 30:
            try:
                sender.sendall(b" ")
                answer = sender.recv(100)
            except TimeoutError:
                continue
    assert b" 408 " in answer


def test_headers_without_end_are_refused(gateway: Gateway) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(200))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as sender:
        try:
            sender.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + many)
            answer = sender.recv(100)
        except ConnectionError:
            return
        assert answer == b"" or b" 431 " in answer


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: +5\r\n",
    ],
)
def test_a_request_with_two_lengths_is_refused(gateway: Gateway, framing: bytes) -> None:
    smuggled = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(
        gateway, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n" + smuggled
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_rebinding_and_pages_of_other_origins_are_refused(gateway: Gateway) -> None:
    url = f"{gateway.url}/v1/models"
    assert fetch(url, {"Host": "evil.example"})[0] == 403
    assert fetch(url, {"Origin": "https://evil.example"})[0] == 403
    assert fetch(url, {"Origin": gateway.url})[0] == 200


def test_keys_open_what_they_are_for(tmp_path: Path) -> None:
    keys = [
        {"name": "all", "sha256": hashlib.sha256(b"sk-all").hexdigest(), "made_at": 1.0, "models": []},
        {"name": "one", "sha256": hashlib.sha256(b"sk-one").hexdigest(), "made_at": 1.0, "models": ["a"]},
    ]
    (tmp_path / "keys.json").write_text(json.dumps({"schema": 1, "keys": keys}))
    (tmp_path / "keys.json").chmod(0o600)
    with serving(tmp_path, {"a": Kind(), "b": Kind()}, doors=Doors(needs_key=True)) as gateway:

        def ask(key: str | None, model: str) -> int:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            body = json.dumps({"messages": HI, "model": model, "stream": True}).encode()
            return fetch(f"{gateway.url}/v1/chat/completions", headers, body)[0]

        assert (ask(None, "a"), ask("sk-wrong", "a"), ask("sk-one", "b")) == (401, 401, 403)
        assert not gateway.deployments.starts
        assert (ask("sk-one", "a"), ask("sk-all", "b")) == (200, 200)
        listed = json.loads(fetch(f"{gateway.url}/v1/models", {"X-Api-Key": "sk-one"})[1])
        assert [model["id"] for model in listed["data"]] == ["a"]
        assert fetch(f"{gateway.url}/gateway/status", {"X-Api-Key": "sk-one"})[0] == 403
        assert fetch(f"{gateway.url}/health")[0] == 200
        status = json.loads(fetch(f"{gateway.url}/gateway/status", {"X-Api-Key": "sk-all"})[1])
        assert status["usage"]["one"]["requests"] == 2


def test_a_models_name_cannot_write_into_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.gateway.proxy._COMMENT_S", 0.1)
    with serving(tmp_path, {"slow": Kind(load_s=0.5)}) as gateway:
        for name in ('x\n\ndata: {"evil": 1}\n\n', "slow\r\nX-Evil: 1"):
            body = json.dumps({"messages": HI, "model": name, "stream": True}).encode()
            status, answer = fetch(f"{gateway.url}/v1/chat/completions", {}, body)
            assert status == 404
            assert b"\n" not in answer


def test_a_slow_reader_holds_no_memory(tmp_path: Path) -> None:
    # the engine sends far more than buffers hold; the gateway reads on only as the client does
    with serving(tmp_path, {"a": Kind()}) as gateway:
        chat(gateway, "a")
        gone = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as engine:
            sent = 0

            def flood() -> None:
                nonlocal sent
                connection, _ = engine.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
                    connection.settimeout(2.0)
                    try:
                        while sent < 200 << 20:
                            connection.sendall(block)
                            sent += 65536
                    except OSError:
                        gone.set()

            thread = threading.Thread(target=flood, daemon=True)
            thread.start()
            process, running = gateway.deployments.processes["a"]
            moved = replace(running, address=Address("127.0.0.1", engine.getsockname()[1]))
            gateway.deployments.processes["a"] = (process, moved)
            gateway.call(lambda: gateway.keeper.running.update(a=moved))
            with socket.create_connection(("127.0.0.1", gateway.port)) as reader:
                body = json.dumps({"messages": HI, "model": "a", "stream": True}).encode()
                reader.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                    % len(body)
                    + body
                )
                assert gone.wait(30)
            thread.join(10)
            assert sent < 32 << 20


def test_of_a_group_only_so_many_run_at_once(tmp_path: Path) -> None:
    models = {
        name: ModelConfig(group=group)
        for name, group in {"a": "big", "b": "big", "c": "two", "d": "two"}.items()
    }
    config = GatewayConfig(models=models, groups={"two": 2})
    kinds = {name: Kind(0.1, slots=1) for name in "abcd"}
    with serving(tmp_path, kinds, config=config) as gateway:
        for name in "cdaba":
            assert chat(gateway, name) == SAID
        assert gateway.deployments.starts == ["c", "d", "a", "b", "a"]
        assert set(gateway.deployments.processes) == {"a", "c", "d"}  # others than of its group stay
        gateway.call(lambda: gateway.keeper.pin("a", stays=True))
        status, answer = fetch(f"{gateway.url}/v1/chat/completions", {}, CHAT % b"b")
        assert status == 400
        sentence = "b may not run beside a, which may not go: 1 of the group big may run at once"
        assert sentence in json.loads(answer)["error"]["message"]


QUICK = SilenceLimits(look_s=0.05, quiet_s=0.2, dead_s=1.0)


def stopped(gateway: Gateway, name: str) -> None:
    engine = psutil.Process(gateway.deployments.processes[name][0].pid)
    engine.suspend()
    until(lambda: engine.status() == psutil.STATUS_STOPPED)


def test_a_frozen_engine_is_ended_and_those_who_wait_hear_of_it(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(switches=("--slow-token", "0.3"))}, silence=QUICK) as gateway:
        with client_of(gateway) as client:
            stream = client.chat.completions.create(model="a", messages=HI, stream=True)  # type: ignore[call-overload]
            next(stream)
            stopped(gateway, "a")
            with pytest.raises(
                openai.APIError, match="a is frozen: llama-server gave no sign of life for 1 s"
            ):
                list(stream)
        # the next one is answered
        assert chat(gateway, "a") == SAID
        words = [change.words for change in gateway.keeper.moments.changes]
        assert words.count("it was frozen, and is started again") == 1


def cannot_be_read(_name: str) -> float | None:
    raise OSError("the record cannot be read")


def test_an_engine_that_takes_its_time_is_left_alone(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind(switches=("--slow-token", "2"))}, silence=QUICK) as gateway:
        with client_of(gateway) as client:
            stream = client.chat.completions.create(model="a", messages=HI, stream=True)  # type: ignore[call-overload]
            assert next(stream)
            assert next(stream)
        assert gateway.deployments.starts == ["a"]


def test_one_that_takes_a_request_and_never_answers_is_frozen_too(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": Kind()}, silence=QUICK) as gateway:
        assert chat(gateway, "a") == SAID
        stopped(gateway, "a")
        gateway.deployments.cpu_s = cannot_be_read  # type: ignore[method-assign]
        status, answer = fetch(f"{gateway.url}/v1/chat/completions", {}, CHAT % b"a")
        assert status == 503
        assert "is being started again (hint: launcher logs a)" in json.loads(answer)["error"]["message"]
