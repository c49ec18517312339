"""Route requests: the gateway's own answers, and what goes to an engine."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode

from launcher import __version__
from launcher.errors import LauncherError
from launcher.gateway.client import Client, Held, Receive, Refusing, Scope, Send
from launcher.gateway.exchange import Exchange
from launcher.gateway.guard import Doors, bearer, find_problem
from launcher.gateway.keeper import Keeper
from launcher.gateway.keys import Key, KeyRing, models_of
from launcher.gateway.metrics import metrics_text
from launcher.gateway.ollama import Ollama
from launcher.gateway.ollama_pull import Disk
from launcher.gateway.overview import status_json
from launcher.gateway.page.page import dashboard, page
from launcher.gateway.proxy import Proxy
from launcher.gateway.replies import FOR_SOME_ONLY, Dialect, Problem, Reply, json_reply, problem_reply
from launcher.gateway.status import Counters, model_json, models_json

_OPEN = frozenset({b"/", b"/health", b"/v1/health"})  # they tell nothing
_UPSTREAM, _MODELS = b"/upstream/", b"/v1/models/"

# llama-server's own paths outside /v1 (tools/server/server.cpp at 0c1e570)
_ENGINES_OWN = frozenset({
    b"/completion", b"/completions", b"/chat/completions", b"/infill", b"/embedding", b"/embeddings",
    b"/rerank", b"/reranking", b"/tokenize", b"/detokenize", b"/apply-template", b"/props", b"/slots",
    b"/lora-adapters", b"/responses",
})  # fmt: skip

_VERBS: dict[str, Callable[[Keeper, str], None]] = {
    "load": Keeper.load,
    "unload": Keeper.unload,
    "pin": functools.partial(Keeper.pin, stays=True),
    "unpin": functools.partial(Keeper.pin, stays=False),
}

log = logging.getLogger("launcher.gateway")

Own = Callable[[Client, frozenset[str] | None], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    doors: Doors
    most_body_bytes: int = 64 << 20
    most_held_bytes: int = 512 << 20  # of all bodies that wait for a model, or may be sent again
    body_patience_s: float = 30.0  # for a body; then it has to come at 1 kB/s on average


class App:
    """The gateway as an ASGI application."""

    def __init__(self, keeper: Keeper, proxy: Proxy, keys: KeyRing, disk: Disk, options: AppOptions) -> None:
        self.keeper, self.proxy, self.keys, self.options = keeper, proxy, keys, options
        self.counters = Counters()
        self._held = Held(options.most_held_bytes)
        self.ollama = Ollama(keeper, proxy, disk)
        self._own: dict[tuple[str, bytes], Own] = {
            ("GET", b"/"): self._hello,
            ("GET", b"/health"): self._health,
            ("GET", b"/v1/health"): self._health,
            ("GET", b"/v1/models"): self._models,
            ("GET", b"/models"): self._models,
            ("GET", b"/metrics"): self._metrics,
            ("GET", b"/gateway/status"): self._status,
            ("GET", b"/gateway/grafana.json"): self._dashboard,
            ("GET", b"/gateway/version"): self._version,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        limits = self.options
        client = Client(
            scope,
            receive,
            send,
            self._held,
            most_bytes=limits.most_body_bytes,
            patience_s=limits.body_patience_s,
        )
        async with client:
            try:
                await self._route(client)
            except Exception as error:  # noqa: BLE001  an answer too, and no prompt in a log
                await self._fail(client, error)

    async def _fail(self, client: Client, error: Exception) -> None:
        path: bytes = client.scope["raw_path"].partition(b"?")[0]
        where = "".join(traceback.format_tb(error.__traceback__)[-1:]).strip()
        log.error("%s in %s", type(error).__name__, where)  # its own words may quote a request
        if client.has_begun or client.gone.is_set():
            return  # the connection breaks off
        sentence = error.message if isinstance(error, LauncherError) else "the gateway failed (hint: its log)"
        problem = Problem(status=500, code="internal_error", sentence=sentence)
        await client.reply(problem_reply(problem, dialect_of(path, client)))

    async def _route(self, client: Client) -> None:
        scope = client.scope
        path: bytes = scope["raw_path"].partition(b"?")[0]
        dialect = dialect_of(path, client)
        key = self.keys.find(bearer(client.headers))
        problem = find_problem(
            self.options.doors, client.headers, path, has_key=key is not None or path in _OPEN
        )
        if problem is not None:
            await client.reply(problem_reply(problem, dialect))
            return
        allowed = models_of(key)
        own = self._own.get((scope["method"].replace("HEAD", "GET"), path))
        if own is not None:
            await own(client, allowed)
        elif path.startswith(_MODELS) and scope["method"] == "GET":
            await self._model(client, path, allowed)
        elif path.startswith(b"/gateway/models/") and scope["method"] == "POST":
            await self._command(client, path, allowed)
        elif path.startswith(b"/api/"):
            await self._ollama(client, path, key)
        elif path.startswith((_UPSTREAM, b"/v1/")) or path in _ENGINES_OWN:
            await self._to_engine(client, path, dialect, key)
        else:
            sentence = f"there is no {scope['method']} {path.decode('latin-1')[:200]}"
            problem = Problem(status=404, code="not_found", sentence=sentence, should_retry=False)
            await client.reply(problem_reply(problem, dialect))

    async def _to_engine(self, client: Client, path: bytes, dialect: Dialect, key: Key | None) -> None:
        scope = client.scope
        query: bytes = scope["query_string"]
        exchange = Exchange(
            dialect=dialect,
            method=scope["method"],
            target=path,
            key_name=None if key is None else key.name,
            allowed=models_of(key),
        )
        name: str | None = None
        if path.startswith(_UPSTREAM):
            word, slash, rest = path.removeprefix(_UPSTREAM).partition(b"/")
            name, exchange.target = unquote(word.decode("latin-1")), slash + rest or b"/"
        elif exchange.method in {"GET", "HEAD", "DELETE"}:
            words = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
            name = dict(words).get("model", "")
            query = urlencode([word for word in words if word[0] != "model"]).encode()
        if name is not None:
            exchange.wanted = await self.keeper.find(name or None)
            if exchange.wanted is None:
                await client.reply(problem_reply(self._no_model(name), dialect))
                return
        if query:
            exchange.target += b"?" + query
        try:
            await self.proxy.serve(client, exchange)
        finally:
            self.counters.count(exchange)

    async def _ollama(self, client: Client, path: bytes, key: Key | None) -> None:
        try:
            exchange = await self.ollama.answer(
                client,
                path.decode("latin-1"),
                key_name=None if key is None else key.name,
                allowed=models_of(key),
            )
        except Refusing as refusing:
            if not client.gone.is_set():
                await client.reply(problem_reply(refusing.problem, Dialect.OLLAMA))
            return
        if exchange is not None:
            self.counters.count(exchange)

    def _no_model(self, name: str) -> Problem:
        near = ", ".join(self.keeper.catalogue.near(name)) if name else ""
        sentence = f"there is no model {name[:100]!r} here" if name else "name a model: ?model=NAME"
        return Problem(
            status=404 if name else 400,
            code="model_not_found",
            sentence=f"{sentence}; there is {near}" if near else sentence,
            should_retry=False,
        )

    # ---- the gateway's own answers ----

    async def _health(self, client: Client, _allowed: frozenset[str] | None) -> None:
        await client.reply(json_reply({"status": "ok"}))

    async def _hello(self, client: Client, _allowed: frozenset[str] | None) -> None:
        if b"text/html" in client.headers.get(b"accept", b""):
            await client.reply(page())
            return
        # what Ollama answers there, and some of its clients look for
        await client.reply(Reply(status=200, body=b"Ollama is running", content_type=b"text/plain"))

    async def _version(self, client: Client, _allowed: frozenset[str] | None) -> None:
        await client.reply(json_reply({"version": __version__}))

    async def _models(self, client: Client, allowed: frozenset[str] | None) -> None:
        await client.reply(json_reply(models_json(self.keeper, allowed)))

    async def _model(self, client: Client, path: bytes, allowed: frozenset[str] | None) -> None:
        name = unquote(path.removeprefix(_MODELS).decode("latin-1"))
        wanted = await self.keeper.find(name)
        if wanted is None or not wanted.servable.is_among(allowed):
            await client.reply(problem_reply(self._no_model(name), dialect_of(path, client)))
            return
        await client.reply(json_reply(model_json(self.keeper, wanted.servable)))

    async def _status(self, client: Client, allowed: frozenset[str] | None) -> None:
        if allowed is not None:
            await self._forbid(client)
            return
        await client.reply(json_reply(status_json(self.keeper, self.proxy, self.counters)))

    async def _metrics(self, client: Client, allowed: frozenset[str] | None) -> None:
        if allowed is not None:
            await self._forbid(client)
            return
        text = metrics_text(self.keeper, self.proxy, self.counters)
        await client.reply(Reply(status=200, body=text.encode(), content_type=b"text/plain; version=0.0.4"))

    async def _dashboard(self, client: Client, _allowed: frozenset[str] | None) -> None:
        await client.reply(Reply(status=200, body=dashboard()))

    async def _command(self, client: Client, path: bytes, allowed: frozenset[str] | None) -> None:
        """Load, unload, pin or unpin a model: POST /gateway/models/NAME/load."""
        name, _, verb = path.removeprefix(b"/gateway/models/").decode("latin-1").rpartition("/")
        wanted = self.keeper.catalogue.find(unquote(name)) if name else None
        if allowed is not None:
            await self._forbid(client)
        elif wanted is None or verb not in _VERBS:
            await client.reply(problem_reply(self._no_model(name), Dialect.OPENAI))
        else:
            _VERBS[verb](self.keeper, wanted.servable.key)
            await client.reply(json_reply(model_json(self.keeper, wanted.servable), status=202))

    async def _forbid(self, client: Client) -> None:
        await client.reply(problem_reply(FOR_SOME_ONLY, Dialect.OPENAI))


def dialect_of(path: bytes, client: Client) -> Dialect:
    """Return whose API a request speaks, by its path and headers."""
    if path.startswith(b"/api/"):
        return Dialect.OLLAMA
    if path.startswith(b"/v1/messages") or b"anthropic-version" in client.headers:
        return Dialect.ANTHROPIC
    return Dialect.OPENAI
