"""Requests that go to an API elsewhere: only where the owner said so, and never beyond the budget."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.gateway.config import GatewayConfig, ModelConfig, read_gateway_config
from launcher.gateway.fallback_config import FallbackConfig, Prices, Style, When, allow
from launcher.gateway.fallback_words import (
    answer_in_our_words,
    asked_tokens,
    most_prompt_tokens,
    translated,
    usage_of,
)
from launcher.system.settings import Settings
from tests.gateway.served import Gateway, Kind, fetch, serving, until
from tests.gateway.test_serving import HI, SAID, chat, client_of

PRICES = Prices(prompt=0.60, answer=3.00, cached=0.10)
KEY = "sk-of-the-owner"


@dataclass
class Upstream:
    """An API elsewhere, as Moonshot's streams are: reasoning first, usage in the last choice."""

    url: str = ""
    status: int = 200
    hangs: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=lambda: {"prompt_tokens": 1000, "completion_tokens": 2000})


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    state = Upstream()
    monkeypatch.setenv("UPSTREAM_KEY", KEY)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body)
            state.keys.append(self.headers["Authorization"])
            if state.hangs is not None:
                state.hangs.wait(60)
            if state.status != 200:
                self._send("application/json", json.dumps({"error": {"message": f"no, {KEY}"}}).encode())
            elif body.get("stream"):
                pieces = [{"reasoning": "Hm."}, {"content": "From "}, {"content": "afar"}]
                chunks: list[dict[str, Any]] = [
                    {"model": "x", "choices": [{"delta": each}]} for each in pieces
                ]
                chunks.append({"choices": [{"delta": {}, "finish_reason": "stop", "usage": state.usage}]})
                events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
                self._send("text/event-stream", f"{events}data: [DONE]\n\n".encode())
            else:
                message = {"role": "assistant", "content": "From afar", "reasoning_content": "Hm."}
                whole = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": state.usage}
                self._send("application/json", json.dumps(whole).encode())

        def _send(self, kind: str, data: bytes) -> None:
            self.send_response(state.status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if state.status == 307:
                self.send_header("Location", "/v1/elsewhere")
            with contextlib.suppress(OSError):  # the gateway has left
                self.end_headers()
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def gateway_with(folder: Path, upstream: Upstream, kind: Kind, **settings: Any) -> Iterator[Gateway]:
    given: dict[str, Any] = {"monthly_budget": 20.0, "prices": PRICES, **settings}
    fallback = FallbackConfig(
        url=upstream.url, model="kimi-k2.5", key_env="UPSTREAM_KEY", key_file=None, **given
    )
    config = GatewayConfig(models={"a": ModelConfig(slots=kind.slots, fallback=fallback)})
    with serving(folder, {"a": kind, "b": Kind(fails="it is cut short")}, config=config) as gateway:
        yield gateway


BROKEN = Kind(fails="it ran out of memory")


def ask(gateway: Gateway, **more: Any) -> Any:
    with client_of(gateway) as client:
        return client.chat.completions.with_raw_response.create(model="a", messages=HI, **more)  # type: ignore[call-overload]


def test_a_model_that_cannot_be_loaded_is_answered_from_afar(tmp_path: Path, upstream: Upstream) -> None:
    with gateway_with(tmp_path, upstream, BROKEN) as gateway:
        assert chat(gateway, "a") == "From afar"
        raw = ask(gateway)
        assert raw.headers["x-launcher-answered-by"] == "127.0.0.1"
        assert raw.parse().choices[0].message.content == "From afar"
        assert raw.parse().model == "a"
        until(lambda: len(gateway.app.counters.answered) == 2)
        status = json.loads(fetch(f"{gateway.url}/gateway/status")[1])
        assert status["answered"][0]["answered_by"] == "127.0.0.1"
        shown = next(each for each in status["models"] if each["name"] == "a")["fallback"]
        assert shown["spent"] == pytest.approx(2 * (1000 * 0.60 + 2000 * 3.00) / 1e6)
        assert 'launcher_fallback_dollars{model="a"} 0.0132' in fetch(f"{gateway.url}/metrics")[1].decode()
    assert upstream.keys == [f"Bearer {KEY}"] * 2
    assert upstream.asked[0]["model"] == "kimi-k2.5"


def test_nothing_leaves_where_it_is_not_turned_on(tmp_path: Path, upstream: Upstream) -> None:
    with gateway_with(tmp_path, upstream, Kind()) as gateway:
        with pytest.raises(openai.APIStatusError, match="cut short"):
            chat(gateway, "b")
        assert chat(gateway, "a") == SAID  # when-unavailable, and it is available
        fetch(f"{gateway.url}/v1/embeddings", {}, b'{"model": "b", "input": "x"}')
    assert upstream.asked == []


def test_a_client_s_key_and_headers_go_nowhere(tmp_path: Path, upstream: Upstream) -> None:
    with gateway_with(tmp_path, upstream, Kind(), when=When.ALWAYS) as gateway:
        ask(gateway, extra_headers={"Authorization": "Bearer mine", "x-api-key": "mine"})
        assert gateway.deployments.starts == []
    assert upstream.keys == [f"Bearer {KEY}"]


def test_overflow_goes_elsewhere_while_the_model_is_busy(tmp_path: Path, upstream: Upstream) -> None:
    kind = Kind(slots=1, switches=("--slow-token", "0.3"))
    with gateway_with(tmp_path, upstream, kind, when=When.OVERFLOW) as gateway:
        assert chat(gateway, "a") == "From afar"  # it is not loaded
        gateway.call(lambda: gateway.keeper.load("a"))
        until(lambda: "a" in gateway.keeper.running and gateway.keeper.state.models["a"].is_idle)
        with client_of(gateway) as client:
            with client.chat.completions.create(model="a", messages=HI, stream=True) as slow:  # type: ignore[call-overload]
                next(iter(slow))
                assert chat(gateway, "a") == "From afar"
            until(lambda: gateway.keeper.state.models["a"].is_idle)
        assert chat(gateway, "a") == SAID


def test_the_budget_stops_it_and_is_remembered(tmp_path: Path, upstream: Upstream) -> None:
    upstream.usage = {"prompt_tokens": 100_000, "completion_tokens": 10_000, "cached_tokens": 50_000}
    cost = (50_000 * 0.60 + 50_000 * 0.10 + 10_000 * 3.00) / 1e6
    budget = {"monthly_budget": 0.1}
    with gateway_with(tmp_path, upstream, BROKEN, **budget) as gateway:
        assert chat(gateway, "a") == "From afar"
        until(lambda: gateway.app.proxy.fallback.spending.spent("a") > 0)  # type: ignore[union-attr]
        assert gateway.app.proxy.fallback.spending.spent("a") == pytest.approx(cost)  # type: ignore[union-attr]
        chat(gateway, "a")
    refused = pytest.raises(openai.APIStatusError, match="does not pay for this request")
    with gateway_with(tmp_path, upstream, BROKEN, **budget) as gateway, refused:
        chat(gateway, "a")
    assert len(upstream.asked) == 2
    # the second answer may be only as long as what was left pays for
    assert upstream.asked[1]["max_tokens"] < upstream.asked[0]["max_tokens"]


def test_an_error_elsewhere_is_said_without_the_key(tmp_path: Path, upstream: Upstream) -> None:
    upstream.status = 401
    with gateway_with(tmp_path, upstream, BROKEN) as gateway:
        with pytest.raises(openai.APIStatusError, match="answers 401") as failed:
            chat(gateway, "a")
        assert gateway.app.proxy.fallback.spending.spent("a") == 0  # type: ignore[union-attr]
    assert KEY not in str(failed.value)


def test_who_leaves_is_booked_at_what_it_may_have_cost(tmp_path: Path, upstream: Upstream) -> None:
    upstream.hangs = threading.Event()
    with gateway_with(tmp_path, upstream, BROKEN) as gateway:
        with client_of(gateway, timeout=2.0) as client, pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="a", messages=HI, max_tokens=1000)  # type: ignore[call-overload]
        spending = gateway.app.proxy.fallback.spending  # type: ignore[union-attr]
        until(lambda: spending.spent("a") > 0)
        upstream.hangs.set()
        assert spending.spent("a") >= 1000 * 3.00 / 1e6


def test_a_redirect_is_not_followed(tmp_path: Path, upstream: Upstream) -> None:
    upstream.status = 307
    refused = pytest.raises(openai.APIStatusError, match="answers 307")
    with gateway_with(tmp_path, upstream, BROKEN) as gateway, refused:
        chat(gateway, "a")
    assert len(upstream.asked) == 1


def test_a_key_for_other_models_does_not_reach_it(tmp_path: Path, upstream: Upstream) -> None:
    key = {"name": "b", "sha256": hashlib.sha256(b"sk-b").hexdigest(), "made_at": 1.0, "models": ["b"]}
    (tmp_path / "keys.json").write_text(json.dumps({"schema": 1, "keys": [key]}))
    (tmp_path / "keys.json").chmod(0o600)
    with gateway_with(tmp_path, upstream, BROKEN, when=When.ALWAYS) as gateway:
        body = json.dumps({"model": "a", "messages": HI}).encode()
        url = f"{gateway.url}/v1/chat/completions"
        assert fetch(url, {"Authorization": "Bearer sk-b"}, body)[0] == 403
    assert upstream.asked == []


def test_no_key_is_said(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSTREAM_KEY")
    refused = pytest.raises(openai.APIStatusError, match="UPSTREAM_KEY with its key is not set")
    with gateway_with(tmp_path, upstream, BROKEN) as gateway, refused:
        chat(gateway, "a")
    assert upstream.asked == []


def test_thinking_is_asked_for_in_the_api_s_words() -> None:
    body = {
        "model": "a", "messages": HI, "temperature": 0.2, "top_k": 5, "cache_prompt": True, "stream": True,
        "chat_template_kwargs": {"thinking": False},
    }  # fmt: skip
    sent = translated(body, model="kimi-k2.5", style=Style.MOONSHOT, answer_tokens=9)
    assert sent == {
        "model": "kimi-k2.5", "messages": HI, "stream": True, "stream_options": {"include_usage": True},
        "max_tokens": 9, "thinking": {"type": "disabled"},
    }  # fmt: skip
    sent = translated(body, model="m", style=Style.OPENAI, answer_tokens=9)
    assert (sent["reasoning_effort"], sent["temperature"]) == ("none", 0.2)
    ours = answer_in_our_words({"choices": [{"delta": {"reasoning": "Hm"}}]}, "a")
    assert ours == {"model": "a", "choices": [{"delta": {"reasoning_content": "Hm"}}]}


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1, "completion_tokens": 1}, "x", [1]])
def test_usage_that_is_none_counts_as_unknown(usage: object) -> None:
    assert usage_of({"usage": usage}) is None


@given(
    st.floats(0, 100), st.floats(0, 100), st.floats(0, 50), st.integers(1, 10**7), st.integers(1, 10**6),
    st.floats(0, 1),
)  # fmt: skip
def test_no_answer_within_its_allowance_costs_more_than_is_left(
    prompt: float, answer: float, left: float, n_bytes: int, asked: int, share: float
) -> None:
    prices = Prices(prompt=prompt, answer=answer, cached=prompt)
    allowance = allow(prices, left, n_bytes, asked)
    if allowance is not None:
        assert allowance.answer_tokens <= asked
        cost = prices.of(int(n_bytes * share), allowance.answer_tokens)
        assert cost <= allowance.dollars * (1 + 1e-9) + 1e-9
        assert allowance.dollars <= left * (1 + 1e-9) + 1e-9


def test_a_picture_counts_as_more_than_its_address() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://e.example/p.png"}}
    content = [{"type": "text", "text": "what is it?"}, picture, picture, "odd"]
    assert (
        most_prompt_tokens({"messages": [{"content": content}, {"content": "x"}, 1]}, 100) == 100 + 3 * 16384
    )
    assert most_prompt_tokens({"messages": "x"}, 100) == 100


def test_a_length_beyond_all_numbers_is_cut() -> None:
    tokens = asked_tokens({"max_tokens": 10**400})
    assert allow(Prices(prompt=1.0, answer=1.0, cached=1.0), 1.0, 10, tokens) is not None
    assert usage_of({"usage": {"prompt_tokens": 10**400, "completion_tokens": 1}}) is None


GOOD = """
[models.m.fallback]
url = "https://api.moonshot.ai/v1"
model = "kimi-k2.5"
key-env = "MOONSHOT_API_KEY"
style = "moonshot"
prompt-price = 0.60
cached-price = 0.10
answer-price = 3.00
monthly-budget = 20
"""


def read(folder: Path, text: str) -> GatewayConfig:
    file = folder / "config.toml"
    file.write_text(text)
    return read_gateway_config(Settings(cache_dir=folder, state_dir=folder, config_file=file, engine=None))


def test_the_example_is_read(tmp_path: Path) -> None:
    fallback = read(tmp_path, GOOD).models["m"].fallback
    assert fallback is not None
    assert (fallback.host, fallback.when, fallback.monthly_budget) == (
        "api.moonshot.ai",
        When.UNAVAILABLE,
        20,
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("https://", "http://"),
        ("https://api.moonshot.ai", "https://me:secret@api.moonshot.ai"),
        ("/v1", "/v1?x=1"),
        ("monthly-budget = 20", ""),
        ("monthly-budget = 20", "monthly-budget = -1"),
        ("monthly-budget = 20", "monthly-budget = inf"),
        ("answer-price = 3.00", ""),
        ("prompt-price = 0.60", "prompt-price = nan"),
        ('key-env = "MOONSHOT_API_KEY"', ""),
        ('key-env = "MOONSHOT_API_KEY"', 'key-env = "A"\nkey-file = "b"'),
        ('style = "moonshot"', 'style = "other"'),
        ('style = "moonshot"', 'when = "sometimes"'),
        ('style = "moonshot"', "budget = 3"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError):
        read(tmp_path, GOOD.replace(old, new))
