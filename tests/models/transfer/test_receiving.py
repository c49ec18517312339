"""Late writes: bytes of a span that is not wanted any more never go unseen by the hash."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.models.network.connection import Connection
from launcher.models.network.request import Answer
from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.receiving import _read_body
from launcher.models.transfer.schedule import Span
from launcher.models.transfer.state import OpenShard, ShardComplete, TransferState
from launcher.models.transfer.sync_and_hash import hash_rest
from launcher.models.transfer.tuning import Tuning

UNIT = 8192
RIGHT, WRONG = b"r" * UNIT, b"w" * UNIT


class StuckWrite:
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
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckWrite]:
    made = StuckWrite()
    monkeypatch.setattr(os, "pwrite", made)
    yield made
    made.let_go.set()


def open_shard(folder: Path) -> OpenShard:
    partial_file = PartialFile(folder / "x.part", size_bytes=UNIT, unit_bytes=UNIT, identity="x")
    download = Download(
        name="x",
        size_bytes=UNIT,
        sha256=hashlib.sha256(RIGHT).hexdigest(),
        url="http://x/x",
        partial_path=partial_file.path,
        lock_path=folder / "x.lock",
        identity="x",
    )
    digest = Digest(partial_file, hashes=True)
    return OpenShard(download=download, partial_file=partial_file, lock=ExitStack(), digest=digest)


class Body:
    """An answer that is all there."""

    def __init__(self, content: bytes) -> None:
        self._content, self.connection = content, Connection(1.0)

    def read_into(self, buffer: memoryview) -> int:
        n_bytes = len(buffer)
        buffer[:] = self._content[:n_bytes]
        self._content = self._content[n_bytes:]
        return n_bytes


def read(state: TransferState, span: Span, opened: OpenShard, content: bytes) -> None:
    answer: Answer = Body(content)  # type: ignore[assignment]
    assert _read_body(state, answer, span, opened, memoryview(bytearray(UNIT))) is None


def test_what_is_hashed_is_what_is_in_the_file_in_the_end(tmp_path: Path, stuck: StuckWrite) -> None:
    """A write of the first try hangs in the disk while all is fetched anew."""
    state, opened = TransferState(Tuning(unit_bytes=UNIT)), open_shard(tmp_path)
    state.schedule.open(0, UNIT)
    state.open[0] = opened
    first = state.schedule.take(time.monotonic())
    assert isinstance(first, Span)
    hashing = threading.Thread(target=hash_rest, args=(state, 0, opened, state.schedule.generation(0)))
    late = threading.Thread(target=read, args=(state, first, opened, WRONG))
    hashing.start()
    late.start()
    assert stuck.reached.wait(30)
    with state.changed:
        state.schedule.restart(0)
        second = state.schedule.take(time.monotonic())
        state.changed.notify_all()
    assert isinstance(second, Span)
    read(state, second, opened, RIGHT)
    try:
        whole = state.events.get(timeout=0.5)  # too early
    except queue.Empty:
        whole = None
    stuck.let_go.set()
    late.join()
    hashing.join()
    whole = whole or state.events.get_nowait()
    assert whole == ShardComplete(
        shard=0, sha256=hashlib.sha256(opened.partial_file.path.read_bytes()).hexdigest()
    )
    opened.partial_file.close()


def test_a_span_that_was_given_up_writes_nothing(tmp_path: Path) -> None:
    """It was wanted when its bytes came."""
    state, opened = TransferState(Tuning(unit_bytes=UNIT)), open_shard(tmp_path)
    state.schedule.open(0, UNIT)
    span = state.schedule.take(time.monotonic())
    assert isinstance(span, Span)
    write = opened.partial_file.write

    def given_up_meanwhile(*words: object, **more: object) -> None:
        state.schedule.restart(0)
        write(*words, **more)  # type: ignore[arg-type]

    opened.partial_file.write = given_up_meanwhile  # type: ignore[method-assign]
    read(state, span, opened, WRONG)
    assert opened.partial_file.path.read_bytes() == bytes(UNIT)
    opened.partial_file.close()
