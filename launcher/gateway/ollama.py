"""Answer Ollama's API: its questions in OpenAI's words to the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from launcher.gateway.catalogue import Wanted, mode_fields
from launcher.gateway.client import Client, Refusing
from launcher.gateway.exchange import Exchange
from launcher.gateway.keeper import Keeper
from launcher.gateway.ollama_lists import loaded, shown, tags
from launcher.gateway.ollama_pull import Disk, pull
from launcher.gateway.ollama_words import (
    BadRequest,
    Timing,
    Translation,
    chat_request,
    embed_answer,
    embed_request,
    error_sentence,
    generate_request,
    json_line,
    object_of,
)
from launcher.gateway.proxy import Proxy
from launcher.gateway.replies import FOR_SOME_ONLY, Dialect, Problem, json_reply, not_for

# The version that clients are told: those that ask want at least the one that has what they use.
_VERSION = "0.12.0"
_NDJSON, _JSON = b"application/x-ndjson", b"application/json"


class Lines:
    """Translates the engine's stream while it comes (proxy.Translator)."""

    def __init__(self, translation: Translation, exchange: Exchange) -> None:
        self._translation, self._exchange = translation, exchange
        self.content_type = _NDJSON if translation.streams else _JSON

    def feed(self, block: bytes) -> bytes:
        return self._translation.feed(block)

    def end(self) -> bytes:
        took = time.monotonic() - self._exchange.began
        timing = Timing(total_ns=int(took * 1e9), load_ns=int(self._exchange.waited_s * 1e9))
        return self._translation.end(timing)

    def fail(self, body: bytes) -> bytes:
        return _error_line(body)


class Vectors:
    """Translates embeddings, once they are whole."""

    content_type = _JSON

    def __init__(self, name: str, *, old: bool) -> None:
        self._name, self._old = name, old
        self._blocks: list[bytes] = []

    def feed(self, block: bytes) -> bytes:
        self._blocks.append(block)
        return b""

    def end(self) -> bytes:
        body = b"".join(self._blocks)
        try:
            return json.dumps(embed_answer(self._name, json.loads(body), old=self._old)).encode()
        except (ValueError, LookupError, TypeError, AttributeError):
            return _error_line(body)

    def fail(self, body: bytes) -> bytes:
        return _error_line(body)


def _error_line(body: bytes) -> bytes:
    try:
        sentence = error_sentence(json.loads(body))
    except (ValueError, AttributeError):
        sentence = body[:500].decode("utf-8", errors="replace")
    return json_line({"error": sentence})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request of Ollama's, read and understood so far."""

    path: str
    given: Mapping[str, Any]
    wanted: Wanted
    name: str
    key_name: str | None
    allowed: frozenset[str] | None


class Ollama:
    """The routes below /api/."""

    def __init__(self, keeper: Keeper, proxy: Proxy, disk: Disk) -> None:
        self._keeper, self._proxy, self._disk = keeper, proxy, disk

    async def answer(
        self, client: Client, path: str, *, key_name: str | None, allowed: frozenset[str] | None
    ) -> Exchange | None:
        """Answer a request; return the exchange with an engine if there was one. Raises Refusing."""
        match client.scope["method"], path:
            case "GET" | "HEAD", "/api/version":
                await client.reply(json_reply({"version": _VERSION}))
            case "GET" | "HEAD", "/api/tags":
                await client.reply(json_reply({"models": tags(self._keeper, allowed)}))
            case "GET", "/api/ps":
                await client.reply(json_reply({"models": loaded(self._keeper, allowed)}))
            case (
                "POST",
                "/api/show" | "/api/chat" | "/api/generate" | "/api/embed" | "/api/embeddings" | "/api/pull",
            ):
                return await self._post(client, path, key_name, allowed)
            case _:
                raise Refusing(
                    Problem(
                        status=404,
                        code="not_found",
                        sentence=f"there is no {path[:200]} here",
                        should_retry=False,
                    )
                )
        return None

    async def _post(
        self, client: Client, path: str, key_name: str | None, allowed: frozenset[str] | None
    ) -> Exchange | None:
        try:
            given = object_of(await client.read_all())
            given_name = given.get("model") or given.get("name")
            name = given_name if isinstance(given_name, str) else None
            if path == "/api/pull":
                await self._pull(client, given, name, allowed)
                return None
            wanted = await self._keeper.find(name)
            if wanted is None:
                sentence = f"model {str(given_name)[:100]!r} not found (launcher pull gets models)"
                raise Refusing(
                    Problem(status=404, code="model_not_found", sentence=sentence, should_retry=False)
                )
            if not wanted.servable.is_among(allowed):
                raise Refusing(not_for(wanted.servable.name))
            if path == "/api/show":
                await client.reply(json_reply(shown(self._keeper, wanted.servable)))
                return None
            name = wanted.servable.name if name is None else name
            return await self._ask(
                client,
                Asked(path=path, given=given, wanted=wanted, name=name, key_name=key_name, allowed=allowed),
            )
        except BadRequest as error:
            problem = Problem(status=400, code="bad_request", sentence=str(error), should_retry=False)
            raise Refusing(problem) from error

    async def _pull(
        self, client: Client, given: Mapping[str, Any], name: str | None, allowed: frozenset[str] | None
    ) -> None:
        if allowed is not None:
            raise Refusing(FOR_SOME_ONLY)
        if name is None:
            raise Refusing(
                Problem(status=400, code="not_allowed", sentence="name a model", should_retry=False)
            )
        await pull(client, self._disk, name, streams=given.get("stream") is not False)

    async def _ask(self, client: Client, asked: Asked) -> Exchange | None:
        given = asked.given
        if self._only_loads(asked):
            await self._load_or_unload(client, asked)
            return None
        exchange = Exchange(
            dialect=Dialect.OLLAMA,
            method="POST",
            target=b"",
            key_name=asked.key_name,
            wanted=asked.wanted,
            allowed=asked.allowed,
        )
        if asked.path.startswith("/api/embed"):
            target, body = "/v1/embeddings", embed_request(given)
            exchange.translator = Vectors(asked.name, old=asked.path == "/api/embeddings")
        else:
            is_chat = asked.path == "/api/chat"
            target, body = (
                ("/v1/chat/completions", chat_request(given)) if is_chat else generate_request(given)
            )
            translation = Translation(
                name=asked.name, created_at=_now(), is_chat=is_chat, streams=given.get("stream") is not False
            )
            exchange.translator = Lines(translation, exchange)
        mode = asked.wanted.mode
        exchange.target = target.encode()
        exchange.body = json.dumps({**({} if mode is None else mode_fields(mode)), **body}).encode()
        await self._proxy.serve(client, exchange)
        if _leaves(given):
            self._keeper.unload(asked.wanted.servable.key)
        return exchange

    @staticmethod
    def _only_loads(asked: Asked) -> bool:
        given = asked.given
        if asked.path == "/api/generate":
            return not given.get("prompt") and not given.get("images")
        return asked.path == "/api/chat" and not given.get("messages")

    async def _load_or_unload(self, client: Client, asked: Asked) -> None:
        key, leaves = asked.wanted.servable.key, _leaves(asked.given)
        if leaves:
            self._keeper.unload(key)
        else:
            self._keeper.load(key)
        answer: dict[str, object] = {"model": asked.name, "created_at": _now(), "done": True}
        answer["done_reason"] = "unload" if leaves else "load"
        if asked.path == "/api/chat":
            answer["message"] = {"role": "assistant", "content": ""}
        else:
            answer["response"] = ""
        await client.reply(json_reply(answer))


def _leaves(given: Mapping[str, Any]) -> bool:
    """Tell if the model is to go when the request is answered."""
    return given.get("keep_alive") in (0, "0", "0s")  # a tuple: what is given may be no key of a set


def _now() -> str:
    return datetime.now(UTC).isoformat()
