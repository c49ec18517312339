"""Bytes of a span that nobody wants any more, on their way into the file: never behind the back of the hash."""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.models.transfer.connection import Connection
from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.receiving import _read_body
from launcher.models.transfer.request import RangeAnswer
from launcher.models.transfer.schedule import Span
from launcher.models.transfer.state import OpenShard, ShardComplete, TransferState
from launcher.models.transfer.sync_and_hash import hash_rest
from launcher.models.transfer.transfer import _Crew
from launcher.models.transfer.tuning import Tuning
from launcher.progress import silent

UNIT = 8192
RIGHT, WRONG = b"r" * UNIT, b"w" * UNIT


class Held:
    """os.pwrite, the first call of which waits until it is let go."""

    def __init__(self) -> None:
        self.reached, self.let_go = threading.Event(), threading.Event()
        self._pwrite, self._first = os.pwrite, True

    def __call__(self, descriptor: int, data: memoryview, offset: int) -> int:
        if self._first:
            self._first = False
            self.reached.set()
            self.let_go.wait(30)
        return self._pwrite(descriptor, data, offset)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held()
    monkeypatch.setattr(os, "pwrite", made)
    yield made
    made.let_go.set()


def open_part(folder: Path) -> OpenShard:
    part = PartialFile(folder / "x.part", size_bytes=UNIT, unit_bytes=UNIT, identity="x")
    wanted = Download(
        name="x",
        size_bytes=UNIT,
        sha256=hashlib.sha256(RIGHT).hexdigest(),
        url="http://x/x",
        partial_path=part.path,
        lock_path=folder / "x.lock",
        identity="x",
    )
    return OpenShard(wanted=wanted, part=part, held=ExitStack(), digest=Digest(part, hashes=True))


class Body:
    """An answer that is all there."""

    def __init__(self, content: bytes) -> None:
        self._content, self.line = content, Connection(1.0)

    def read_into(self, buffer: memoryview) -> int:
        n_bytes = len(buffer)
        buffer[:] = self._content[:n_bytes]
        self._content = self._content[n_bytes:]
        return n_bytes


def read(under_way: TransferState, span: Span, opened: OpenShard, content: bytes) -> None:
    answer: RangeAnswer = Body(content)  # type: ignore[assignment]
    assert _read_body(under_way, answer, span, opened, memoryview(bytearray(UNIT))) is None


def test_what_is_hashed_is_what_is_in_the_file_in_the_end(tmp_path: Path, held: Held) -> None:
    """A write of the first try hangs in the disk while all is fetched anew."""
    under_way, opened = TransferState(Tuning(unit_bytes=UNIT)), open_part(tmp_path)
    under_way.board.open(0, UNIT)
    under_way.open[0] = opened
    first = under_way.board.take(time.monotonic())
    assert isinstance(first, Span)
    hashing = threading.Thread(target=hash_rest, args=(under_way, 0, opened, under_way.board.generation(0)))
    late = threading.Thread(target=read, args=(under_way, first, opened, WRONG))
    hashing.start()
    late.start()
    assert held.reached.wait(30)
    with under_way.changed:
        under_way.board.restart(0)
        second = under_way.board.take(time.monotonic())
        under_way.changed.notify_all()
    assert isinstance(second, Span)
    read(under_way, second, opened, RIGHT)
    try:
        whole = under_way.events.get(timeout=0.5)  # too early
    except queue.Empty:
        whole = None
    held.let_go.set()
    late.join()
    hashing.join()
    whole = whole or under_way.events.get_nowait()
    assert whole == ShardComplete(shard=0, sha256=hashlib.sha256(opened.part.path.read_bytes()).hexdigest())
    opened.part.close()


def test_a_span_that_was_given_up_writes_nothing(tmp_path: Path) -> None:
    """It was wanted when its bytes came."""
    under_way, opened = TransferState(Tuning(unit_bytes=UNIT)), open_part(tmp_path)
    under_way.board.open(0, UNIT)
    span = under_way.board.take(time.monotonic())
    assert isinstance(span, Span)
    write = opened.part.write

    def given_up_meanwhile(*words: object, **more: object) -> None:
        under_way.board.restart(0)
        write(*words, **more)  # type: ignore[arg-type]

    opened.part.write = given_up_meanwhile  # type: ignore[method-assign]
    read(under_way, span, opened, WRONG)
    assert opened.part.path.read_bytes() == bytes(UNIT)
    opened.part.close()


def test_a_partial_file_that_cannot_be_synced_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_part(tmp_path)
    opened.part.mark([0])
    crew = _Crew([opened.wanted], None, Tuning(), silent)  # type: ignore[arg-type]
    crew._under_way.open[0] = opened
    descriptor = opened.part._descriptor

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    crew._leave()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
