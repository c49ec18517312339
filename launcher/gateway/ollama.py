"""Answer Ollama's API: its lists, and its questions in OpenAI's words to the engine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from launcher.gateway.admission.state import Phase
from launcher.gateway.catalogue import Servable, Wanted, mode_fields
from launcher.gateway.client import Client, Refusing
from launcher.gateway.exchange import Exchange
from launcher.gateway.keeper import Keeper
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
    object_of,
)
from launcher.gateway.proxy import Proxy
from launcher.gateway.replies import Dialect, Problem, json_reply
from launcher.gateway.status import served

# The version that clients are told: those that ask want at least the one that has what they use.
_VERSION = "0.12.0"
_NDJSON, _JSON = b"application/x-ndjson", b"application/json"
_MANY_S = 3600.0


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
    return json.dumps({"error": sentence}).encode() + b"\n"


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
                models = [self._tag(each) for each in served(self._keeper, allowed)]
                await client.reply(json_reply({"models": models}))
            case "GET", "/api/ps":
                await client.reply(json_reply({"models": self._running(allowed)}))
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
            name = given.get("model") or given.get("name")
            if path == "/api/pull":
                if allowed is not None or not isinstance(name, str):
                    sentence = "this key is for some models only" if allowed is not None else "name a model"
                    raise Refusing(
                        Problem(
                            status=403 if allowed else 400,
                            code="not_allowed",
                            sentence=sentence,
                            should_retry=False,
                        )
                    )
                await pull(client, self._disk, name, streams=given.get("stream") is not False)
                return None
            wanted = await self._keeper.find(name if isinstance(name, str) else None)
            if wanted is None:
                raise Refusing(
                    Problem(
                        status=404,
                        code="model_not_found",
                        sentence=f"model {str(name)[:100]!r} not found (launcher pull gets models)",
                        should_retry=False,
                    )
                )
            if allowed is not None and not {wanted.servable.name, wanted.servable.key} & allowed:
                sentence = f"this key is not for {wanted.servable.name}"
                raise Refusing(Problem(status=403, code="not_allowed", sentence=sentence, should_retry=False))
            name = name if isinstance(name, str) else wanted.servable.name
            asked = Asked(
                path=path, given=given, wanted=wanted, name=name, key_name=key_name, allowed=allowed
            )
            match path:
                case "/api/show":
                    await client.reply(json_reply(self._show(wanted.servable)))
                case _:
                    return await self._ask(client, asked)
        except BadRequest as error:
            problem = Problem(status=400, code="bad_request", sentence=str(error), should_retry=False)
            raise Refusing(problem) from error
        return None

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

    # ---- lists ----

    def _tag(self, servable: Servable) -> dict[str, object]:
        name = servable.name if ":" in servable.name else f"{servable.name}:latest"
        return {
            "name": name,
            "model": name,
            "modified_at": datetime.fromtimestamp(servable.used_at or 0, UTC).isoformat(),
            "size": servable.size_bytes or 0,
            "digest": _digest(servable),
            "details": _details(servable),
        }

    def _running(self, allowed: frozenset[str] | None) -> list[dict[str, object]]:
        rows = []
        for servable in served(self._keeper, allowed):
            model = self._keeper.state.models.get(servable.key)
            running = self._keeper.running.get(servable.key)
            if model is None or model.phase is not Phase.READY:
                continue
            idle = time.monotonic() - model.used_at
            left = _MANY_S * 24 * 365 if model.ttl_s is None or model.pinned else max(0.0, model.ttl_s - idle)
            tag = self._tag(servable)
            del tag["modified_at"]
            rows.append({
                **tag,
                "size": sum(model.needs.values()),
                "size_vram": sum(n for place, n in model.needs.items() if place != "ram"),
                "expires_at": (datetime.now(UTC) + timedelta(seconds=left)).isoformat(),
                "context_length": None if running is None else running.ctx_size,
            })  # fmt: skip
        return rows

    def _show(self, servable: Servable) -> dict[str, object]:
        running = self._keeper.running.get(servable.key)
        ctx_size = None if running is None else running.ctx_size
        context = (
            {} if ctx_size is None else {"general.architecture": "gguf", "gguf.context_length": ctx_size}
        )
        return {
            "modelfile": f"FROM {servable.name}\n",
            "parameters": "",
            "template": "",
            "details": _details(servable),
            "model_info": {"general.basename": servable.name, **context},
            "capabilities": [
                "completion",
                "tools",
                *(["vision"] if running is not None and running.sees else []),
            ],
            "modified_at": datetime.fromtimestamp(servable.used_at or 0, UTC).isoformat(),
        }


def _leaves(given: Mapping[str, Any]) -> bool:
    """Tell if the model is to go when the request is answered."""
    return given.get("keep_alive") in (0, "0", "0s")  # a tuple: what is given may be no key of a set


def _details(servable: Servable) -> dict[str, object]:
    quant = servable.ref.rpartition(":")[2] if ":" in servable.ref else ""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": quant,
    }


def _digest(servable: Servable) -> str:
    # clients tell models apart by it; of which file it would be is nobody's business
    return hashlib.sha256(servable.key.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat()
