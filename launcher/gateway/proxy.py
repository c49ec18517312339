"""Pass one request to the engine of its model, and the answer back, piece by piece."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from launcher.gateway.catalogue import mode_fields
from launcher.gateway.client import Client, Refusing
from launcher.gateway.door import Door
from launcher.gateway.engine_http import EngineConnection, EngineFrozen, EngineGone, Engines
from launcher.gateway.exchange import Exchange, Translator
from launcher.gateway.keeper import Keeper
from launcher.gateway.replies import Dialect, Problem, not_for, problem_event, problem_of, problem_reply
from launcher.gateway.request_body import Body
from launcher.gateway.ticket import Refused, Ticket
from launcher.units import one_line

if TYPE_CHECKING:
    from launcher.gateway.fallback import Fallback  # an HTTP client, which few have a use for

_COMMENT_S = 3.0  # between two signs of life of a stream whose model is loading
_MOST_ERROR = 1 << 20
_RESTART_S = 1800.0  # as long as a request may wait for its model
_UNAVAILABLE = 503
_TRIES = 4

# of one connection only (RFC 9110 7.6.1), or the gateway's own business
_NOT_PASSED_ON = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"proxy-authenticate", b"proxy-authorization", b"host", b"authorization", b"x-api-key", b"content-length",
    b"expect", b"origin", b"referer", b"cookie",
})  # fmt: skip
_NOT_PASSED_BACK = _NOT_PASSED_ON - {b"content-length"} | {b"server", b"date", b"set-cookie"}


class Proxy:
    def __init__(self, keeper: Keeper, engines: Engines, fallback: Fallback | None = None) -> None:
        self.fallback = fallback
        self._keeper, self._door = keeper, Door(keeper)
        self._engines = engines
        self.exchanges: dict[int, Exchange] = {}

    async def serve(self, client: Client, exchange: Exchange) -> None:
        """Answer the request, whatever happens; return early if its client is gone."""
        self.exchanges[id(exchange)] = exchange
        try:
            with client.while_here():
                await self._answer(client, exchange)
        finally:
            self.exchanges.pop(id(exchange), None)

    async def _answer(self, client: Client, exchange: Exchange) -> None:
        try:
            await self._answer_or_raise(client, exchange)
        except Refusing as refusing:
            await self._fail(client, exchange, refusing.problem)
        except Refused as refused:
            problem = problem_of(refused.why, refused.sentence, refused.retry_after_s)
            await self._fail(client, exchange, problem)
        except EngineGone as error:
            problem = Problem(status=503, code="engine_gone", sentence=_with_hint(error), retry_after_s=5)
            await self._fail(client, exchange, problem)

    async def _answer_or_raise(self, client: Client, exchange: Exchange) -> None:
        client.check_length()
        body = Body(client, exchange.body)
        fields = await body.read_fields(exchange, self._keeper)
        wanted = exchange.wanted
        if wanted is None:
            raise Refusing(_unknown(fields.get("model"), self._keeper))
        if not wanted.servable.is_among(exchange.allowed):
            raise Refusing(not_for(wanted.servable.name))
        if wanted.mode is not None:
            body.put_in_front(mode_fields(wanted.mode))
        may_comment = fields.get("stream") is True and exchange.dialect is not Dialect.OLLAMA
        elsewhere = self.fallback
        if elsewhere is not None and elsewhere.goes_first(exchange):
            await elsewhere.answer(client, exchange, await body.read_whole())
            return
        try:
            await self._answer_here(client, exchange, body, may_comment=may_comment)
        except (Refused, EngineGone):
            if elsewhere is None or not elsewhere.takes_over(exchange) or not body.can_be_sent_again:
                raise
            await elsewhere.answer(client, exchange, await body.read_whole())

    async def _answer_here(
        self, client: Client, exchange: Exchange, body: Body, *, may_comment: bool
    ) -> None:
        model, tried = exchange.model or "", set[str]()
        for attempt in range(_TRIES):
            exchange.asked = self._door.choose(model, body.head, tried)
            ticket = self._keeper.ask(exchange.asked)
            try:
                await self._wait(client, exchange, ticket, may_comment=may_comment)
                if await self._pass_on(client, exchange, body, is_last=attempt == _TRIES - 1):
                    return
            finally:
                self._keeper.end(ticket)
            tried.add(exchange.asked)
            if not self._door.has_others(model):  # else another one is asked at once
                await self._until_back(client, exchange, ticket.model, may_comment=may_comment)

    async def _wait(self, client: Client, exchange: Exchange, ticket: Ticket, *, may_comment: bool) -> None:
        began = time.monotonic()
        await self._with_comments(client, exchange, ticket.model, ticket.admitted, may_comment=may_comment)
        exchange.waited_s += time.monotonic() - began
        await ticket.admitted  # raises Refused

    async def _until_back(self, client: Client, exchange: Exchange, name: str, *, may_comment: bool) -> None:
        back = asyncio.ensure_future(self._keeper.until_ready(name, _RESTART_S))
        try:
            await self._with_comments(client, exchange, name, back, may_comment=may_comment)
            await back
        finally:
            back.cancel()

    async def _with_comments(
        self, client: Client, exchange: Exchange, name: str, what: asyncio.Future[Any], *, may_comment: bool
    ) -> None:
        """Wait for it, and give a stream a sign of life now and then."""
        while not what.done():
            await asyncio.wait({what}, timeout=_COMMENT_S if may_comment else None)
            if what.done() or not may_comment:
                continue
            if not client.has_begun:
                exchange.status = 200
                await client.begin(200, [(b"content-type", b"text/event-stream"), exchange.model_header])
            await client.write(f": {self._words(name)}\n\n".encode())

    def _words(self, name: str) -> str:
        model, moment = self._keeper.state.models.get(name), self._keeper.moments.get(name)
        if model is None or moment is None:
            return "waiting"
        so_far = time.monotonic() - moment.since
        ahead = len(self._keeper.state.waiting)
        progress = f", {moment.words}" if moment.words else ""
        running = self._keeper.running.get(name)
        if running is not None and not running.is_ready:
            return one_line(f"{name} is being started again; {ahead} requests wait", 200)
        if model.short_since is not None:
            progress = ", and lacks memory that others have taken"
        return one_line(f"{name} is {model.phase} for {so_far:.0f} s{progress}; {ahead} requests wait", 200)

    async def _pass_on(self, client: Client, exchange: Exchange, body: Body, *, is_last: bool) -> bool:
        """Ask the engine and pass its answer back; False if it has to be asked again."""
        name = exchange.asked or ""
        running = self._keeper.running.get(name)
        if running is None:
            if is_last:
                raise EngineGone(f"{name} ended while it was asked", hint="launcher logs")
            await self._keeper.look()
            return False
        if running.problem is not None:
            sentence = f"{name} cannot be asked: {running.problem} (hint: launcher stop {name})"
            raise Refusing(Problem(status=503, code="no_secret", sentence=sentence, should_retry=False))
        headers = _engine_headers(client, running.secret, body.length, is_json=exchange.body is not None)
        fresh = False
        while True:
            was_kept = not fresh and self._engines.has_kept(running.address)
            try:
                async with self._engines.connection(running.address, fresh=fresh) as engine:
                    await engine.send(exchange.method, exchange.target, headers, body.framed())
                    may_ask_again = body.can_be_sent_again and not is_last
                    if engine.status == _UNAVAILABLE and may_ask_again and await self._is_loading(name):
                        return False
                    await self._pass_back(client, exchange, engine)
                    return True
            except EngineGone as gone:
                # it may be this request that froze it: it is not sent again
                is_frozen = isinstance(gone, EngineFrozen)
                if exchange.has_head or not body.can_be_sent_again or is_last or is_frozen:
                    raise
                if was_kept:  # it may have closed an old connection just now
                    fresh = True
                    continue
                self._engines.forget(running.address)
                await self._keeper.look()
                return False

    async def _is_loading(self, name: str) -> bool:
        """Tell if the engine is being started again: it listens before its model is there."""
        await self._keeper.look()
        running = self._keeper.running.get(name)
        return running is not None and not running.is_ready

    async def _pass_back(self, client: Client, exchange: Exchange, engine: EngineConnection) -> None:
        exchange.has_head = True
        status = engine.status or 502
        if client.has_begun and status != 200:
            await client.write(await _error_event(engine))
            await client.finish()
            return
        if exchange.translator is not None:
            await self._translate(client, exchange, engine, exchange.translator)
            return
        if not client.has_begun:
            exchange.status = status
            headers = [pair for pair in engine.headers if _passes_back(pair[0])]
            await client.begin(status, [*headers, exchange.model_header])
        while block := await engine.read():
            exchange.note(block)
            if engine.is_read:
                await client.finish(block)
                return
            await client.write(block)
        await client.finish()

    async def _translate(
        self, client: Client, exchange: Exchange, engine: EngineConnection, translator: Translator
    ) -> None:
        async def write(lines: bytes) -> None:
            # not before: an answer in one piece that breaks off has the status of an error
            if not client.has_begun:
                exchange.status = engine.status or 502
                content_type = (b"content-type", translator.content_type)
                await client.begin(exchange.status, [content_type, exchange.model_header])
            await client.write(lines)

        if engine.status != 200:
            await write(translator.fail(await _read_error(engine)))
            await client.finish()
            return
        while block := await engine.read():
            exchange.note(block)
            if lines := translator.feed(block):
                await write(lines)
        await write(translator.end())
        await client.finish()

    async def _fail(self, client: Client, exchange: Exchange, problem: Problem) -> None:
        if client.gone.is_set():
            return
        if client.has_begun:
            await client.write(problem_event(problem, exchange.dialect))
            await client.finish()
            return
        exchange.status = problem.status
        await client.reply(problem_reply(problem, exchange.dialect))


def _with_hint(error: EngineGone) -> str:
    return error.message if error.hint is None else f"{error.message} (hint: {error.hint})"


def _unknown(name: object, keeper: Keeper) -> Problem:
    if not isinstance(name, str) or not name:
        sentence = "the request names no model, and no default is set"
        return Problem(status=400, code="no_model", sentence=sentence, should_retry=False)
    near = keeper.catalogue.near(name)
    also = f"; there is {', '.join(near)}" if near else ""
    sentence = f"there is no model {one_line(name, 100)!r} here{also} (hint: launcher ls)"
    return Problem(status=404, code="model_not_found", sentence=sentence, should_retry=False)


def _engine_headers(
    client: Client, secret: str | None, length: int | None, *, is_json: bool
) -> list[tuple[bytes, bytes]]:
    headers = [pair for pair in client.scope["headers"] if pair[0] not in _NOT_PASSED_ON]
    if is_json:
        headers = [pair for pair in headers if pair[0] not in {b"content-type", b"accept-encoding"}]
        headers.append((b"content-type", b"application/json"))
    headers.append((b"host", b"127.0.0.1"))
    if secret is not None:
        headers.append((b"authorization", b"Bearer " + secret.encode()))
    if length is None:
        headers.append((b"transfer-encoding", b"chunked"))
    elif length or client.scope["method"] not in {"GET", "HEAD"}:
        headers.append((b"content-length", b"%d" % length))
    return headers


def _passes_back(name: bytes) -> bool:
    return name not in _NOT_PASSED_BACK and not name.startswith(b"access-control-")


async def _error_event(engine: EngineConnection) -> bytes:
    text = b" ".join((await _read_error(engine)).split())  # one line: an event ends with a blank one
    return b"data: " + text + b"\n\n"


async def _read_error(engine: EngineConnection) -> bytes:
    blocks, size = [], 0
    while (block := await engine.read()) and size < _MOST_ERROR:
        blocks.append(block)
        size += len(block)
    return b"".join(blocks)
