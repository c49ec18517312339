"""A file on a web server whose bytes are read in ranges."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from launcher.errors import LauncherError
from launcher.system.network.answer import find_range_trouble
from launcher.system.network.body import read_span
from launcher.system.network.reader import Reader
from launcher.system.network.request import Answer, Resource, ask
from launcher.system.network.trouble import Trouble, TroubleKind


class RangedFile:
    """A `ByteSource` whose answers must agree on size and version. For one thread."""

    def __init__(
        self,
        reader: Reader,
        resource: Resource,
        name: str,
        explain: Callable[[Trouble], LauncherError],
        *,
        size_bytes: int | None = None,
        ranges_only: bool = False,  # a server that ignores ranges is not read from the file's start
    ) -> None:
        self._reader, self._resource, self._explain = reader, resource, explain
        self._ranges_only = ranges_only
        self._link: str | None = None  # where redirects led, for the next request
        self._version: str | None = None
        self.name = name
        self.size_bytes = self._listed_size = size_bytes

    def forget(self) -> None:
        """Read the file as if nothing of it had been read."""
        self._link = self._version = None
        self.size_bytes = self._listed_size

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end. Raises what `explain` returns."""
        if self.size_bytes is not None:
            length = min(length, self.size_bytes - offset)
        if length <= 0:
            return b""
        data = self._reader.insist(lambda: self._attempt(offset, length))
        if isinstance(data, Trouble):
            raise self._explain(data)
        return data

    def _attempt(self, offset: int, length: int) -> bytes | Trouble:
        span = {"Range": f"bytes={offset}-{offset + length - 1}"}
        answer = ask(self._reader.connection_to, self._resource, headers=span, link=self._link)
        if isinstance(answer, Trouble):
            self._link = None
            return answer
        trouble = self._judge(answer, offset)
        if trouble is not None:
            self._link = None  # it may have expired: the next try begins at the file's own address
            if trouble.status == 416 and self.size_bytes is None:
                self.size_bytes = offset  # beyond the end: of an empty file, as nothing was read yet
                return b""
            return trouble
        self._link = answer.link
        size = self.size_bytes if self.size_bytes is not None else answer.head.file_size
        wanted = length if size is None else min(length, size - offset)
        data = read_span(answer, wanted, self._reader.policy, skip=offset - answer.head.range_begin)
        if not isinstance(data, Trouble):
            self.size_bytes, self._version = size, answer.head.version
        return data

    def _judge(self, answer: Answer, offset: int) -> Trouble | None:
        now = datetime.now(UTC)
        trouble = find_range_trouble(answer.head, position=offset, size_bytes=self.size_bytes, now=now)
        if answer.head.status == 200 and self._ranges_only:
            return Trouble(kind=TroubleKind.IGNORES_RANGES, reason="it ignores ranges", status=200)
        if trouble is not None and trouble.kind is not TroubleKind.IGNORES_RANGES:
            return trouble
        if self._version not in {None, answer.head.version}:
            return Trouble(kind=TroubleKind.CHANGED, reason="it changed while it was read")
        return None
