"""The client's side of one request: its body as it comes, and word of it when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Self

from launcher.gateway.replies import Problem, Reply

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MOST_BODY_S = 900.0  # for all of a body, however steadily it drips
_MOST_UNREAD = 1 << 20  # bytes of a body that wait to be passed on
_LEAST_BYTES_S = 1000  # of a body on average, once its patience is used up


class Refusing(Exception):
    """A request that cannot be answered, and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence)
        self.problem = problem


@dataclass(slots=True)
class Held:
    """The bytes of all requests that are in memory now."""

    most: int
    n_bytes: int = 0


class Client:
    """A client whose body is read ahead by a bounded amount, and whose leaving is noticed."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, held: Held, *, most_bytes: int, patience_s: float
    ) -> None:
        self.scope = scope
        self.headers = _joined(scope["headers"])
        self.gone = asyncio.Event()
        self.has_begun = False  # an answer is on its way
        self._receive, self._send = receive, send
        self._held, self._n_held = held, 0
        self._most_bytes, self._patience_s = most_bytes, patience_s
        self._blocks: deque[bytes] = deque()
        self._unread = self._total = 0
        self._is_whole = False
        self._problem: Problem | None = None
        self._changed = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._answering: asyncio.Task[object] | None = None

    @property
    def length(self) -> int | None:
        text = self.headers.get(b"content-length")
        return int(text) if text is not None and text.isdigit() else None

    def check_length(self) -> None:
        """Raise Refusing if the body is announced as too large."""
        if (self.length or 0) > self._most_bytes:
            raise Refusing(self._too_large())

    async def __aenter__(self) -> Self:
        self._pump = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._held.n_bytes -= self._n_held
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump

    @contextlib.contextmanager
    def while_here(self) -> Iterator[None]:
        """Cancel what is done in this block when the client leaves, and go on behind it."""
        self._answering = task = asyncio.current_task()
        if self.gone.is_set():
            self._leave()
        try:
            yield
        except asyncio.CancelledError:
            # somebody else may have cancelled it as well
            if not self.gone.is_set() or task is None or task.uncancel():
                raise
        finally:
            self._answering = None

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises Refusing if it is too large, too slow, or breaks off."""
        while True:
            while self._blocks:
                block = self._blocks.popleft()
                self._unread -= len(block)
                self._changed.set()
                yield block
            if self._problem is not None:
                raise Refusing(self._problem)
            if self._is_whole:
                return
            if self.gone.is_set():
                raise Refusing(Problem(status=400, code="gone", sentence="the client is gone"))
            self._changed.clear()
            await self._changed.wait()

    async def read_all(self) -> bytes:
        """Return the whole body. Raises as `blocks`."""
        self.check_length()
        blocks = []
        async for block in self.blocks():
            self.hold(len(block))
            blocks.append(block)
        return b"".join(blocks)

    def hold(self, n_bytes: int) -> None:
        """Note that so much more of the body is kept until the request ends. Raises Refusing."""
        self._held.n_bytes += n_bytes
        self._n_held += n_bytes
        if self._held.n_bytes > self._held.most:
            sentence = f"requests under way fill the {self._held.most} bytes that there are for them"
            raise Refusing(Problem(status=503, code="requests_too_large", sentence=sentence, retry_after_s=5))

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, block: bytes) -> None:
        """Pass on a piece of the answer; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": block, "more_body": True})

    async def finish(self, block: bytes = b"") -> None:
        """Pass on the last piece of the answer."""
        await self._send({"type": "http.response.body", "body": block, "more_body": False})

    async def reply(self, reply: Reply) -> None:
        """Send a whole answer."""
        length = b"%d" % len(reply.body)
        headers = [(b"content-type", reply.content_type), (b"content-length", length), *reply.headers]
        await self.begin(reply.status, headers)
        body = b"" if self.scope["method"] == "HEAD" else reply.body
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self.gone.is_set():
            latest = began + min(_MOST_BODY_S, self._patience_s + self._total / _LEAST_BYTES_S)
            try:
                async with asyncio.timeout_at(None if self._is_whole else latest):
                    message = await self._receive()
            except TimeoutError:
                self._fail(408, "slow_body", f"only {self._total} bytes came in {loop.time() - began:.0f} s")
                return
            if message["type"] == "http.disconnect":
                self._leave()
                return
            block = message.get("body", b"")
            self._total += len(block)
            if self._total > self._most_bytes:
                self._problem = self._too_large()
                self._changed.set()
                return
            if block:
                self._blocks.append(block)
                self._unread += len(block)
            self._is_whole = not message.get("more_body", False)
            self._changed.set()
            full = loop.time()
            while self._unread > _MOST_UNREAD:
                self._changed.clear()
                await self._changed.wait()
            began += loop.time() - full  # it was not the client that was slow

    def _leave(self) -> None:
        self.gone.set()
        self._changed.set()
        if self._answering is not None:
            self._answering.cancel()

    def _fail(self, status: int, code: str, sentence: str) -> None:
        self._problem = Problem(status=status, code=code, sentence=sentence, should_retry=False)
        self._changed.set()

    def _too_large(self) -> Problem:
        sentence = f"the body is larger than {self._most_bytes} bytes"
        return Problem(status=413, code="body_too_large", sentence=sentence, should_retry=False)


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by name; of two of one name the values together, so that neither hides the other."""
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = b"%s, %s" % (joined[name], value) if name in joined else value
    return joined
