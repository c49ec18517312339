"""Late writes: bytes of a span that is not wanted any more never go unseen by the hash."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.models.transfer import receiving
from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.receiving import _fetch, _is_over, _next_read, _read_body, _settle
from launcher.models.transfer.schedule import Span
from launcher.models.transfer.state import OpenShard, ServerBusy, ShardComplete, ShardFailed, TransferState
from launcher.models.transfer.sync_and_hash import hash_rest
from launcher.models.transfer.tuning import Tuning
from launcher.system.network.answer import ResponseHead
from launcher.system.network.connection import Connection
from launcher.system.network.request import Answer
from launcher.system.network.trouble import Trouble, TroubleKind

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


KIB = 1024
EXPIRED = Trouble(kind=TroubleKind.LINK, reason="it answered 403", status=403)


def answered(version: str, link: str | None = None) -> Answer:
    head = ResponseHead(status=206, headers={"etag": version}, url="http://x/x", redirected=False)
    return Answer(connection=Connection(1.0), body=None, head=head, link=link)  # type: ignore[arg-type]


class Fetching:
    """A shard's first span, fetched with answers that are given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, pins: bool = False) -> None:
        self.opened = open_shard(folder)
        self.opened.download = replace(self.opened.download, pins_version=pins)
        self.state = TransferState(Tuning(unit_bytes=UNIT))
        self.state.schedule.open(0, UNIT)
        self.state.open[0] = self.opened
        self._patch = monkeypatch
        monkeypatch.setattr(receiving, "_read_body", lambda *_: None)

    def span(self) -> Span:
        span = self.state.schedule.take(0.0)
        assert isinstance(span, Span)
        return span

    def fetch(
        self, span: Span, answer: Answer | Trouble, meanwhile: Callable[[], None] = lambda: None
    ) -> Trouble | None:
        def request_range(*_: object) -> Answer | Trouble:
            meanwhile()
            return answer

        self._patch.setattr(receiving, "request_range", request_range)
        return _fetch(self.state, Connection(1.0), span, self.opened, memoryview(bytearray(1)))


@pytest.fixture
def fetching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetching]:
    made = Fetching(tmp_path, monkeypatch)
    yield made
    made.opened.partial_file.close()


def test_a_link_is_kept_for_the_next_span(fetching: Fetching) -> None:
    assert fetching.fetch(fetching.span(), answered("", "http://y/signed")) is None
    assert fetching.opened.redirected_to == "http://y/signed"


def test_a_link_that_has_expired_is_dropped_and_no_failure(fetching: Fetching) -> None:
    fetching.opened.redirected_to = "http://y/old"
    assert fetching.fetch(fetching.span(), EXPIRED) is None
    assert fetching.opened.redirected_to is None


def test_a_link_that_another_connection_has_renewed_is_kept(fetching: Fetching) -> None:
    fetching.opened.redirected_to = "http://y/old"
    renew = lambda: setattr(fetching.opened, "redirected_to", "http://y/new")  # noqa: E731
    assert fetching.fetch(fetching.span(), EXPIRED, renew) is None
    assert fetching.opened.redirected_to == "http://y/new"


def test_a_link_that_was_just_given_and_is_refused_is_a_failure(fetching: Fetching) -> None:
    assert fetching.fetch(fetching.span(), EXPIRED) == EXPIRED


def test_other_trouble_with_a_link_is_a_failure_and_keeps_it(fetching: Fetching) -> None:
    fetching.opened.redirected_to = "http://y/old"
    broke = Trouble(kind=TroubleKind.BROKE, reason="reset")
    assert fetching.fetch(fetching.span(), broke) == broke
    assert fetching.opened.redirected_to == "http://y/old"


def test_another_version_than_the_partial_file_s_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Fetching(tmp_path, monkeypatch, pins=True)
    span = one.span()
    one.state.schedule.advance(span, 100)  # of an earlier transfer, say
    assert one.fetch(span, answered("v1")) is None
    assert (span.cancelled, one.state.schedule.arrived(0), one.opened.partial_file.version) == (True, 0, "v1")
    again = one.span()
    assert one.fetch(again, answered("v1")) is None
    assert (again.cancelled, one.opened.partial_file.version) == (False, "v1")
    changed = one.fetch(again, answered("v2"))
    assert changed == Trouble(kind=TroubleKind.CHANGED, reason="it changed while it was fetched")
    one.opened.partial_file.close()


def test_a_version_for_a_file_of_which_nothing_is_here_cancels_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Fetching(tmp_path, monkeypatch, pins=True)
    span = one.span()
    assert one.fetch(span, answered("v1")) is None
    assert (span.cancelled, one.opened.partial_file.version) == (False, "v1")
    one.opened.partial_file.close()


def test_a_file_that_its_hash_pins_may_change_its_version(fetching: Fetching) -> None:
    span = fetching.span()
    assert fetching.fetch(span, answered("v1")) is None
    assert fetching.fetch(span, answered("v2")) is None
    assert fetching.opened.partial_file.version == ""


def test_a_busy_server_is_reported_once_for_each_longer_wait(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    busy = Trouble(kind=TroubleKind.BUSY, reason="it answered 503", status=503, retry_after_s=7.0)
    _settle(fetching.state, fetching.span(), busy)
    assert fetching.state.events.get_nowait() == ServerBusy(status=503, wait_s=7.0)
    monkeypatch.setattr(time, "monotonic", lambda: 200.0)
    later = fetching.state.schedule.take(200.0)
    assert isinstance(later, Span)
    _settle(fetching.state, later, Trouble(kind=TroubleKind.BROKE, reason="reset"))
    assert fetching.state.events.empty()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_shard_that_cannot_be_had_is_reported_unless_all_is_over(
    fetching: Fetching, *, stopped: bool
) -> None:
    refused = Trouble(kind=TroubleKind.REFUSED, reason="it answered 401")
    span = fetching.span()
    fetching.state.stopped = stopped
    _settle(fetching.state, span, refused)
    if stopped:
        assert fetching.state.events.empty()
    else:
        assert fetching.state.events.get_nowait() == ShardFailed(shard=0, trouble=refused)


def test_a_span_is_over_at_its_end_or_when_it_is_not_wanted() -> None:
    state = TransferState(Tuning())
    span = Span(shard=0, begin=0, position=4, end=5, checked_at=0.0)
    assert not _is_over(state, span)
    for position in (5, 6):
        assert _is_over(state, replace(span, position=position))
    assert _is_over(state, replace(span, cancelled=True))
    state.stopped = True
    assert _is_over(state, span)


@pytest.mark.parametrize(
    ("n_read", "took_s", "most", "expected"),
    [
        (32 * KIB, 0.0, 1024 * KIB, 64 * KIB),
        (32 * KIB, 0.09, 1024 * KIB, 64 * KIB),
        (32 * KIB, 0.1, 1024 * KIB, 32 * KIB),
        (64 * KIB, 0.4, 1024 * KIB, 64 * KIB),
        (128 * KIB, 0.41, 1024 * KIB, 64 * KIB),
        (32 * KIB, 9.0, 1024 * KIB, 32 * KIB),
        (1024 * KIB, 0.0, 1024 * KIB, 1024 * KIB),
        (700, 0.0, 1000, 1000),
        (700, 9.0, 1000, 1000),
    ],
)
def test_a_slow_connection_is_asked_for_less_at_once(
    n_read: int, took_s: float, most: int, expected: int
) -> None:
    assert _next_read(n_read, took_s, most) == expected


class Pieces:
    """An answer that gives `pieces`, however much is asked for; `asked` are the sizes."""

    def __init__(self, *pieces: bytes | Trouble) -> None:
        self._pieces, self.connection, self.asked = list(pieces), Connection(1.0), list[int]()

    def read_into(self, buffer: memoryview) -> int | Trouble:
        self.asked.append(len(buffer))
        piece = self._pieces.pop(0)
        if isinstance(piece, Trouble):
            return piece
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Callable[..., Trouble | None]]:
    state, opened = TransferState(Tuning(unit_bytes=UNIT, crawl_bytes=10)), open_shard(tmp_path)
    state.schedule.open(0, UNIT)
    span = state.schedule.take(time.monotonic())
    assert isinstance(span, Span)

    def read_body(body: Pieces, crawled_s: float = 0.0) -> Trouble | None:
        span.checked_at -= crawled_s
        answer: Answer = body  # type: ignore[assignment]
        return _read_body(state, answer, span, opened, memoryview(bytearray(UNIT)))

    yield read_body
    opened.partial_file.close()


def test_a_body_that_ends_early_or_breaks_is_trouble(reading: Callable[..., Trouble | None]) -> None:
    reset = Trouble(kind=TroubleKind.BROKE, reason="reset")
    assert reading(Pieces(b"abc", reset)) == reset
    body = Pieces(b"abcd", b"")
    assert reading(body) == Trouble(kind=TroubleKind.BROKE, reason="it broke off at byte 7")
    assert body.asked == [UNIT - 3, UNIT - 7]


def test_a_body_that_sends_next_to_nothing_is_given_up(reading: Callable[..., Trouble | None]) -> None:
    assert reading(Pieces(b"abcdefghi"), crawled_s=1000) == Trouble(
        kind=TroubleKind.BROKE, reason="it sends next to nothing"
    )
    assert reading(Pieces(b"x" * (UNIT - 9))) is None


def test_the_first_read_is_small_so_that_progress_is_seen(tmp_path: Path) -> None:
    size = 1 << 20
    state, opened = TransferState(Tuning(unit_bytes=size)), open_shard(tmp_path)
    state.schedule.open(0, size)
    span = state.schedule.take(time.monotonic())
    assert isinstance(span, Span)
    body = Pieces(Trouble(kind=TroubleKind.BROKE, reason="reset"))
    answer: Answer = body  # type: ignore[assignment]
    _read_body(state, answer, span, opened, memoryview(bytearray(size)))
    assert body.asked == [32 * KIB]
    opened.partial_file.close()


def test_a_fast_connection_is_asked_for_twice_as_much_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    size = 500 * KIB
    opened = open_shard(tmp_path)
    state = TransferState(Tuning(unit_bytes=size))
    state.schedule.open(0, size)
    span = state.schedule.take(100.0)
    assert isinstance(span, Span)
    body = Pieces(*(bytes(n * KIB) for n in (32, 64, 128, 200, 76)))
    answer: Answer = body  # type: ignore[assignment]
    assert _read_body(state, answer, span, opened, memoryview(bytearray(200 * KIB))) is None
    assert body.asked == [n * KIB for n in (32, 64, 128, 200, 76)]
    opened.partial_file.close()
