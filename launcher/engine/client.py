"""Call llama-server's HTTP API."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from launcher.errors import EngineFailed, UsageError
from launcher.system.json_object import parse_json

_CONNECT_S = 5.0
_ANSWER_S = 10.0  # for calls that compute nothing (/health, /props, /v1/models)
_ROOM_FOR_ANSWER = 8  # tokens
_MOST_BYTES = 16 << 20  # of an answer, or of a line of one that is streamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Props:
    """What the server tells about itself."""

    n_ctx: int | None  # tokens that one request can use
    n_slots: int | None
    model_path: str | None
    build: str | None


def generate_token(url: str, *, api_key: str | None = None) -> None:
    """Make the model produce one token, by `/completion`.

    Raises EngineFailed, UsageError if the server refuses the request.
    """
    # Not by chat: chat parsers fail on models of random weights.
    if not _produce_token(url, "Hi", api_key):
        raise EngineFailed("llama-server answered without producing a token", hint="launcher logs")


def complete_token(url: str, model: str, *, api_key: str | None = None) -> None:
    """Make the model produce one token, by OpenAI's `/v1/completions`. Raises as `generate_token`."""
    body = {"model": model, "prompt": "Hi", "max_tokens": 1, "ignore_eos": True, "stream": True}
    with contextlib.closing(stream_events(url, "/v1/completions", body, api_key)) as events:
        if not any(event.get("choices") for event in events):
            raise EngineFailed("vLLM answered without producing a token", hint="launcher logs")


def fill_context(url: str, n_ctx: int, *, api_key: str | None = None) -> None:
    """Make the model read a prompt of nearly `n_ctx` tokens and produce one token.

    Raises as `generate_token`.
    """
    n_tokens = max(1, n_ctx - _ROOM_FOR_ANSWER)
    # Token ids need no text of a known length; 1 to 96 exist in every vocabulary.
    if not _produce_token(url, [1 + index % 96 for index in range(n_tokens)], api_key):
        raise EngineFailed("llama-server read a long prompt and produced no token", hint="launcher logs")


def _produce_token(url: str, prompt: str | Sequence[int], api_key: str | None) -> bool:
    body = {"prompt": prompt, "n_predict": 1, "stream": True, "cache_prompt": False}
    n_produced = 0
    with contextlib.closing(stream_events(url, "/completion", body, api_key)) as events:
        for event in events:
            n_produced += event.get("tokens_predicted") or 0
            if event.get("stop"):
                # ik_llama.cpp does not end a stream whose first event is the last, as of half a character
                break
    return n_produced >= 1


def read_metrics(url: str, *, api_key: str | None = None) -> dict[str, float]:
    """Read /metrics, names without their prefix (`predicted_tokens_seconds`, …). Raises EngineFailed."""
    return parse_metrics(_read(url, "/metrics", api_key))


def parse_metrics(text: str) -> dict[str, float]:
    """Parse the unlabelled samples of Prometheus text."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("llamacpp:") and "{" not in name:
            with contextlib.suppress(ValueError):
                samples[name.removeprefix("llamacpp:")] = float(value)
    return samples


def is_loaded(url: str, limit_s: float = _ANSWER_S) -> bool | None:
    """Ask /health if the model is loaded; None if nobody answers."""
    try:
        with _client(limit_s) as client, client.stream("GET", f"{url}/health") as response:
            return response.status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return None


def list_model_ids(url: str, *, api_key: str | None = None) -> tuple[str, ...]:
    """List the ids clients can ask for. Raises EngineFailed."""
    listed = _get(url, "/v1/models", api_key).get("data") or []
    return tuple(str(model["id"]) for model in listed)


def read_props(url: str, *, api_key: str | None = None) -> Props:
    """Read /props. Raises EngineFailed."""
    given = _get(url, "/props", api_key)
    settings = given.get("default_generation_settings") or {}
    return Props(
        n_ctx=settings.get("n_ctx"),
        n_slots=given.get("total_slots"),
        model_path=given.get("model_path"),
        build=given.get("build_info"),
    )


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def _get(url: str, path: str, api_key: str | None) -> dict[str, Any]:
    return _object(_read(url, path, api_key))


def _read(url: str, path: str, api_key: str | None) -> str:
    # what listens there by now may be another program, and send for ever
    with (
        _mapped(url),
        _client(_ANSWER_S) as client,
        client.stream("GET", f"{url}{path}", headers=_headers(api_key)) as response,
    ):
        body = _body(response)
        _raise_for(response.status_code, body)
        return body


def _body(response: httpx2.Response) -> str:
    body, deadline = bytearray(), time.monotonic() + _ANSWER_S
    for block in response.iter_raw():  # as it came: nothing asked for it compressed
        body += block
        if len(body) > _MOST_BYTES:
            raise EngineFailed(f"llama-server sent more than {_MOST_BYTES} bytes", hint="launcher ps")
        if time.monotonic() > deadline:
            raise EngineFailed(
                f"llama-server did not end its answer in {_ANSWER_S:.0f} s", hint="launcher ps"
            )
    return body.decode("utf-8", errors="replace")


def stream_events(
    url: str, path: str, body: Mapping[str, Any], api_key: str | None
) -> Generator[dict[str, Any]]:
    """Yield the decoded server-sent events of one request, without the closing [DONE]."""
    with (
        _mapped(url),
        _client(None) as client,
        client.stream("POST", f"{url}{path}", json=dict(body), headers=_headers(api_key)) as response,
    ):
        if response.status_code != httpx2.codes.OK:
            _raise_for(response.status_code, _body(response))
        for line in _lines(response):
            field, _, text = line.partition(":")
            if field not in {"data", "error"} or text.strip() == "[DONE]":
                continue  # empty lines and keepalive comments
            event = _object(text)
            if field == "error" or "error" in event:
                raise _refused(event.get("error", event), None)
            yield event


def _lines(response: httpx2.Response) -> Iterator[str]:
    # `Response.iter_lines` also breaks at U+2028 and U+0085, which JSON may hold.
    rest = b""
    for block in response.iter_raw():
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _MOST_BYTES:
            raise EngineFailed(
                f"llama-server sent a line of more than {_MOST_BYTES} bytes", hint="launcher ps"
            )
        for line in lines:
            yield line.decode("utf-8", errors="replace")
    if rest:
        yield rest.decode("utf-8", errors="replace")


def _client(read_s: float | None) -> httpx2.Client:
    return httpx2.Client(
        # No limit for reading answers: a long prompt on a slow machine is silent for minutes and no failure,
        # and when the server dies the kernel closes the connection.
        timeout=httpx2.Timeout(read_s, connect=_CONNECT_S),
        headers={"Accept-Encoding": "identity"},
        trust_env=False,  # no proxies: the server is ours and usually on loopback
        # Plain HTTP only: an empty trust store saves the 25 ms (measured) of loading a real one.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    """Raise HTTP trouble as one sentence."""
    try:
        yield
    except httpx2.ConnectError as error:
        raise EngineFailed(f"nobody answers at {url}", hint="launcher ps") from error
    except httpx2.HTTPError as error:
        raise EngineFailed(
            f"the connection to llama-server at {url} was lost: {error or type(error).__name__}",
            hint="launcher ps",
        ) from error


def _raise_for(status: int, body: str) -> None:
    if status == httpx2.codes.OK:
        return
    try:
        given: object = parse_json(body).get("error")
    except (ValueError, AttributeError):
        given = None
    raise _refused(given, status)


def _refused(given: object, status: int | None) -> EngineFailed | UsageError:
    told = given if isinstance(given, Mapping) else {"message": given}
    code = told.get("code", status)
    message = " ".join(str(told.get("message") or f"HTTP status {status}").split())
    if code in {401, 403}:
        return UsageError(f"llama-server refuses the API key: {message}", hint="--api-key-file FILE")
    # A 4xx is about the request, anything else about the server.
    if isinstance(code, int) and 400 <= code < 500:
        return UsageError(f"llama-server refuses the request: {message}")
    return EngineFailed(f"llama-server failed to answer: {message}", hint="launcher logs")


def _object(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise EngineFailed(f"llama-server sent no JSON: {text[:80]!r}", hint="launcher logs") from error
    if not isinstance(value, dict):
        raise EngineFailed(f"llama-server sent no JSON object: {text[:80]!r}", hint="launcher logs")
    return value
