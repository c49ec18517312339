"""Ask an engine on loopback over HTTP/1.1, and hand on what it sends as it comes.

httptools parses, as in the server: of the clients that were measured it costs least for each piece that is
passed on (DESIGN.md). Connections are used again. An engine is not read faster than its client reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import cast

import httptools

from launcher.errors import EngineFailed

Headers = list[tuple[bytes, bytes]]

_CONNECT_S = 5.0
_MOST_UNREAD = 256 << 10  # bytes of an answer that wait for the client
_MOST_KEPT = 64  # connections to one engine that are kept open


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


class EngineGone(EngineFailed):
    """The engine did not answer, or its answer broke off."""


class EngineFrozen(EngineGone):
    """The engine lives and will not answer."""


class EngineConnection(asyncio.Protocol):
    """One connection to an engine; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_open = False
        self.status: int | None = None
        self.headers: Headers = []
        self.ended = False  # the answer is complete, or the connection lost
        self.complete = False
        self.heard_at = self.asked_at = 0.0  # the last byte came; the last request began
        self.failure: EngineGone | None = None  # why it was given up
        self._blocks: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._may_write: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._keeps = False
        self._is_head = False

    # ---- of the transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.is_open = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        if self._parser is None:
            self.close()  # nothing was asked
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  its protocol
        self.is_open, self.ended = False, True
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._may_write = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        waiter, self._may_write = self._may_write, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ---- of the parser ----

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is not None:
            status = parser.get_status_code()
            if status < 200:  # 100 Continue: the answer follows
                self.headers = []
            else:
                self.status, self._keeps = status, parser.should_keep_alive() and not self._is_head
                if self._is_head:  # whatever length it announces, nothing follows
                    self.ended = self.complete = True

    def on_body(self, block: bytes) -> None:
        self._blocks.append(block)
        self._unread += len(block)
        if self._unread > _MOST_UNREAD and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status is not None:
            self.ended = self.complete = True

    # ---- of its user ----

    async def send(
        self, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: AsyncIterable[bytes]
    ) -> None:
        """Send a request, and return once the answer's head is here. Raises EngineGone."""
        self.status, self.headers, self.ended, self.complete = None, [], False, False
        self.asked_at = time.monotonic()
        self._parser, self._is_head = httptools.HttpResponseParser(self), method == "HEAD"
        head = b"".join([b"%s: %s\r\n" % pair for pair in headers])
        unsent = b"%s %s HTTP/1.1\r\n%s\r\n" % (method.encode("ascii"), target, head)
        async for block in body:
            if self.ended:
                break  # it has answered without reading on
            # one write for the head and a small body: each takes 20 us
            self._write(unsent + block if unsent else block)
            unsent = b""
            if self._may_write is not None:
                await self._may_write
        if unsent:
            self._write(unsent)
        while self.status is None and not self.ended:
            await self._wait()
        if self.status is None:
            raise self._gone("llama-server closed the connection without an answer")

    async def read(self) -> bytes:
        """Return what has come of the body, and b"" at its end. Raises EngineGone if it breaks off."""
        while not self._blocks:
            if self.ended:
                if not self.complete:
                    raise self._gone("llama-server broke off its answer")
                return b""
            await self._wait()
        blocks, self._blocks, self._unread = self._blocks, [], 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    @property
    def is_read(self) -> bool:
        """Tell if all of the answer is read."""
        return self.complete and not self._blocks

    @property
    def is_waited_for(self) -> bool:
        return self._waiter is not None or self._may_write is not None

    @property
    def can_be_kept(self) -> bool:
        return self.is_open and self.complete and self._keeps and not self._blocks

    def close(self) -> None:
        """End the connection: llama-server stops generating for a client that is gone."""
        if self.transport is not None:
            self.transport.abort()
        self.is_open, self.ended = False, True

    def _gone(self, sentence: str) -> EngineGone:
        return self.failure or EngineGone(sentence, hint="launcher logs")

    def _write(self, block: bytes) -> None:
        if self.transport is not None and self.is_open:
            self.transport.write(block)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


class Engines:
    """Connections to engines that wait to be used again."""

    def __init__(self) -> None:
        self._idle: dict[Address, list[EngineConnection]] = {}
        self._busy: dict[Address, set[EngineConnection]] = {}

    @contextlib.asynccontextmanager
    async def connection(self, address: Address, *, fresh: bool = False) -> AsyncIterator[EngineConnection]:
        """Yield a connection; it is kept for another request if the answer was read to its end."""
        connection = None if fresh else self._take(address)
        if connection is None:
            connection = await connect(address)
        busy = self._busy.setdefault(address, set())
        busy.add(connection)
        try:
            yield connection
        finally:
            busy.discard(connection)
            kept = self._idle.setdefault(address, [])
            if connection.can_be_kept and len(kept) < _MOST_KEPT:
                kept.append(connection)
            else:
                connection.close()

    def has_kept(self, address: Address) -> bool:
        return any(each.is_open for each in self._idle.get(address, ()))

    def silent(self, since: float) -> set[Address]:
        """Return the engines that are waited for, and have sent nothing since then."""
        return {
            address
            for address, busy in self._busy.items()
            if any(each.is_waited_for and each.asked_at <= since for each in busy)
            and all(each.heard_at <= since for each in busy)
        }

    def give_up(self, address: Address, failure: EngineGone) -> None:
        """Fail everything that waits for the engine."""
        for connection in tuple(self._busy.get(address, ())):
            connection.failure = failure
            connection.close()
        self.forget(address)

    def forget(self, address: Address) -> None:
        """Close the connections to an engine that is no more."""
        for connection in self._idle.pop(address, ()):
            connection.close()

    def close(self) -> None:
        for address in tuple(self._idle):
            self.forget(address)

    def _take(self, address: Address) -> EngineConnection | None:
        kept = self._idle.get(address, [])
        while kept:
            connection = kept.pop()
            if connection.is_open:
                return connection
        return None


async def is_open(address: Address) -> bool:
    """Tell if somebody takes connections there."""
    try:
        connection = await connect(address)
    except EngineGone:
        return False
    connection.close()
    return True


async def connect(address: Address) -> EngineConnection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, connection = await loop.create_connection(EngineConnection, address.host, address.port)
    except (OSError, TimeoutError) as error:
        raise EngineGone(
            f"nobody answers at {address.host}:{address.port}: {error}", hint="launcher ps"
        ) from error
    return connection
