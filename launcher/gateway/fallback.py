"""Answer a request from an API elsewhere, where the owner allows it for that model."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from launcher.engine.key_file import read_api_key
from launcher.errors import LauncherError
from launcher.gateway.admission.state import Phase
from launcher.gateway.client import Client, Refusing
from launcher.gateway.exchange import Exchange
from launcher.gateway.fallback_config import Allowance, FallbackConfig, When
from launcher.gateway.fallback_words import (
    answer_in_our_words,
    asked_tokens,
    event,
    most_prompt_tokens,
    translated,
    usage_of,
)
from launcher.gateway.keeper import Keeper
from launcher.gateway.replies import Problem
from launcher.gateway.spending import Spending
from launcher.system.json_object import Malformed, parse_json
from launcher.units import one_line

ANSWERED_BY = b"x-launcher-answered-by"

_CHAT = {b"/v1/chat/completions", b"/chat/completions"}
_CONNECT_S, _SILENCE_S = 10.0, 600.0
_MOST_ANSWER, _MOST_LINE, _MOST_ERROR = 64 << 20, 4 << 20, 64 << 10

log = logging.getLogger("launcher.gateway")


class Fallback:
    def __init__(self, keeper: Keeper, spending: Spending) -> None:
        self._keeper, self.spending = keeper, spending
        self._made: httpx2.AsyncClient | None = None

    @property
    def _http(self) -> httpx2.AsyncClient:
        if self._made is None:  # with the first request: it reads the system's certificates
            # no redirect is followed: it would carry the key elsewhere
            timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
            self._made = httpx2.AsyncClient(timeout=timeout, follow_redirects=False)
        return self._made

    async def close(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    def goes_first(self, exchange: Exchange) -> bool:
        """Tell if the request goes elsewhere before it is tried here."""
        config = self._config(exchange)
        if config is None or config.when is When.UNAVAILABLE:
            return False
        return config.when is When.ALWAYS or self._would_wait(exchange)

    def takes_over(self, exchange: Exchange) -> bool:
        """Tell if a request that cannot be answered here goes elsewhere."""
        return self._config(exchange) is not None and not exchange.n_bytes

    async def answer(self, client: Client, exchange: Exchange, body: bytes) -> None:
        """Ask the API, and pass its answer back. Raises Refusing where it does not answer."""
        config, name = self._config(exchange), exchange.model or ""
        if config is None:
            return
        asked = _parsed(body)
        key = _key(config)
        allowance = self.spending.reserve(
            name, config, most_prompt_tokens(asked, len(body)), asked_tokens(asked)
        )
        if allowance is None:
            budget = f"{config.monthly_budget:.2f} dollars a month"
            sentence = f"what is left of {budget} for {name} at {config.host} does not pay for this request"
            raise Refusing(Problem(status=503, code="budget_spent", sentence=sentence, should_retry=False))
        sent = translated(
            asked, model=config.model, style=config.style, answer_tokens=allowance.answer_tokens
        )
        usage: list[tuple[int, int, int]] = []
        was_sent = True
        try:
            async with self._http.stream(
                "POST",
                f"{config.url}/chat/completions",
                json=sent,
                headers={"Authorization": f"Bearer {key}"},
            ) as answer:
                if answer.status_code != httpx2.codes.OK:
                    was_sent = False  # an error costs nothing
                    raise Refusing(await _refusal(config, key, answer))
                exchange.answered_by = config.host
                await self._pass_back(client, exchange, answer, usage)
        except httpx2.HTTPError as error:
            was_sent = not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise Refusing(_trouble(config, type(error).__name__)) from error
        finally:
            self._settle(name, config, allowance, usage[-1] if usage else None, was_sent=was_sent)

    async def _pass_back(
        self, client: Client, exchange: Exchange, answer: httpx2.Response, usage: list[tuple[int, int, int]]
    ) -> None:
        host = exchange.answered_by or ""
        is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
        content_type = b"text/event-stream" if is_stream else b"application/json"
        translator = exchange.translator
        if client.has_begun:
            await client.write(f": answered by {host}\n\n".encode())
        else:
            exchange.status = 200
            await client.begin(200, [
                (b"content-type", content_type if translator is None else translator.content_type),
                exchange.model_header,
                (ANSWERED_BY, host.encode("ascii", errors="replace")),
            ])  # fmt: skip
        async for document in _documents(answer, is_stream=is_stream):
            if document is None:
                block = b"data: [DONE]\n\n"
            else:
                if (figures := usage_of(document)) is not None:
                    usage.append(figures)
                ours = answer_in_our_words(document, exchange.model or "")
                block = event(ours) if is_stream else _json(ours)
            exchange.note(block)
            out = block if translator is None else translator.feed(block)
            if out:
                await client.write(out)
        if translator is not None:
            await client.write(translator.end())
        await client.finish()

    def _settle(
        self,
        name: str,
        config: FallbackConfig,
        allowance: Allowance,
        usage: tuple[int, int, int] | None,
        *,
        was_sent: bool,
    ) -> None:
        # an answer that broke off is counted at what it may have cost
        dollars = config.prices.of(*usage) if usage is not None else allowance.dollars if was_sent else 0.0
        with contextlib.suppress(OSError):
            self.spending.settle(name, allowance, dollars)
        log.info("%s was answered by %s for %.6f dollars", name, config.host, dollars)

    def _config(self, exchange: Exchange) -> FallbackConfig | None:
        wanted = exchange.wanted
        if wanted is None or exchange.method != "POST" or exchange.target.partition(b"?")[0] not in _CHAT:
            return None
        return wanted.servable.config.fallback

    def _would_wait(self, exchange: Exchange) -> bool:
        model = self._keeper.state.models.get(exchange.model or "")
        return model is None or model.phase is not Phase.READY or model.n_active >= model.slots


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        asked = parse_json(body)
    except Malformed:
        asked = None
    if not isinstance(asked, dict):
        problem = Problem(
            status=400, code="bad_json", sentence="the body is no JSON object", should_retry=False
        )
        raise Refusing(problem)
    return asked


def _key(config: FallbackConfig) -> str:
    try:
        if config.key_file is not None:
            return read_api_key(Path(config.key_file).expanduser()) or ""
    except LauncherError as error:
        raise Refusing(_trouble(config, f"its key cannot be read ({error.message})")) from error
    key = os.environ.get(config.key_env or "", "").strip()
    if not key:
        raise Refusing(_trouble(config, f"the variable {config.key_env} with its key is not set"))
    return key


def _trouble(config: FallbackConfig, why: str) -> Problem:
    sentence = f"the fallback at {config.host} does not answer: {why}"
    return Problem(status=503, code="fallback_failed", sentence=sentence, retry_after_s=30)


async def _refusal(config: FallbackConfig, key: str, answer: httpx2.Response) -> Problem:
    text = b""
    async for block in answer.aiter_bytes():
        text += block
        if len(text) > _MOST_ERROR:
            break
    try:
        error = parse_json(text).get("error")
        words = str(error.get("message") if isinstance(error, dict) else error)
        words = one_line(words.replace(key, "KEY"), 300)  # some APIs repeat it
    except (Malformed, AttributeError):
        words = ""
    sentence = f"the fallback at {config.host} answers {answer.status_code}{f': {words}' if words else ''}"
    return Problem(status=503, code="fallback_failed", sentence=sentence, retry_after_s=30)


async def _documents(answer: httpx2.Response, *, is_stream: bool) -> AsyncIterator[dict[str, Any] | None]:
    """Yield the answer's documents; None for the end of a stream."""
    rest, total = b"", 0
    async for block in answer.aiter_bytes():
        rest += block
        total += len(block)
        if total > _MOST_ANSWER or (is_stream and len(rest) > _MOST_LINE + len(block)):
            raise httpx2.ReadError("its answer is too large")
        if not is_stream:
            continue
        *lines, rest = rest.split(b"\n")
        for line in lines:
            text = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:"):
                continue
            if text == b"[DONE]":
                yield None
            else:
                yield _document(text)
    if not is_stream:
        yield _document(rest)


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = parse_json(text)
    except Malformed as error:
        raise httpx2.DecodingError("its answer is no JSON") from error
    if not isinstance(document, dict):
        raise httpx2.DecodingError("its answer is no JSON object")
    return document


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
