"""A request's body on its way to the engine: read as far as routing needs, and streamed from there."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Mapping

from launcher.gateway.body import TopLevelFields, fields_of, with_defaults
from launcher.gateway.client import Client
from launcher.gateway.exchange import Exchange
from launcher.gateway.keeper import Keeper

_MOST_HEAD = 8 << 20  # bytes of a body in which its model has to be named
_MOST_AGAIN = 1 << 20  # a body up to this size is kept, and sent again where an engine was restarted
_ROUTING = ("model", "stream")
_SMALL = 16 << 10  # bytes of a body that is parsed at once
_STEP = 64 << 10  # bytes that are looked through before others have their turn
_FIELD = re.compile(rb'name="model"\r\n')
_MOST_FIELDS, _MOST_PART_HEAD, _MOST_NAME = 4, 1024, 256


class Body:
    """A request's body on its way to the engine."""

    def __init__(self, client: Client, instead: bytes | None = None) -> None:
        self._client = client
        self._stream = client.blocks()
        self._head = instead or b""
        self._added = 0
        self._is_whole = instead is not None
        self._streamed = False

    @property
    def length(self) -> int | None:
        """None if nobody knows it: then it is sent in chunks."""
        if self._is_whole:
            return len(self._head)
        length = self._client.length
        return None if length is None else length + self._added

    @property
    def head(self) -> bytes:
        """What has been read of it."""
        return self._head

    @property
    def can_be_sent_again(self) -> bool:
        return not self._streamed

    async def read_fields(self, exchange: Exchange, keeper: Keeper) -> Mapping[str, object]:
        """Read until the model is known, and a small body whole; sets the exchange's model."""
        if self._is_whole:
            return {}
        reader, blocks = TopLevelFields(_ROUTING), []
        is_form = self._client.headers.get(b"content-type", b"").startswith(b"multipart/")
        is_small = not is_form and (self._client.length or _SMALL + 1) <= _SMALL
        size = 0
        async for block in self._stream:
            self._client.hold(len(block))
            blocks.append(block)
            size += len(block)
            if not is_form and not is_small:
                for begin in range(0, len(block), _STEP):
                    if begin:
                        await asyncio.sleep(0)
                    reader.feed(block[begin : begin + _STEP])
            if size > _MOST_HEAD or (size > _MOST_AGAIN and (reader.is_done or exchange.wanted is not None)):
                break
        else:
            self._is_whole = True
        self._head = b"".join(blocks)
        fields = fields_of(self._head, _ROUTING) if is_small else dict(reader.found)
        if is_form:
            fields["model"] = _form_field(self._head)
        if exchange.wanted is None:
            name = fields.get("model")
            exchange.wanted = await keeper.find(name if isinstance(name, str) and name else None)
        return fields

    async def read_whole(self) -> bytes:
        """Return the body, read to its end. Raises Refusing as the client's blocks do."""
        if not self._is_whole:
            blocks = [self._head]
            async for block in self._stream:
                self._client.hold(len(block))
                blocks.append(block)
            self._head, self._is_whole = b"".join(blocks), True
        return self._head

    def put_in_front(self, fields: Mapping[str, object]) -> None:
        before = len(self._head)
        self._head = with_defaults(self._head, fields)
        self._added = len(self._head) - before

    async def framed(self) -> AsyncIterator[bytes]:
        """Yield the body as it goes over the wire, in chunks where its length is not known."""
        in_chunks = self.length is None
        if self._head:
            yield _chunk(self._head) if in_chunks else self._head
        if not self._is_whole:
            self._streamed = True
            async for block in self._stream:
                yield _chunk(block) if in_chunks else block
        if in_chunks:
            yield b"0\r\n\r\n"


def _chunk(block: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(block), block)


def _form_field(head: bytes) -> str | None:
    """Return the value of a form's field `model`."""
    for found in itertools.islice(_FIELD.finditer(head), _MOST_FIELDS):
        begin = head.find(b"\r\n\r\n", found.end() - 2, found.end() + _MOST_PART_HEAD) + 4
        end = head.find(b"\r\n", begin, begin + _MOST_NAME + 2)
        if begin >= 4 and end > begin:
            return head[begin:end].decode("utf-8", errors="replace")
    return None
