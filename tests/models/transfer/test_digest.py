"""The sha256 of a file that arrives in pieces: in which order ever, it is the file's."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from launcher.models.transfer.digest import Digest
from launcher.models.transfer.partial_file import PartialFile

UNIT = 8192
DATA = random.Random(5).randbytes(10 * UNIT + 77)


@pytest.fixture
def part(tmp_path: Path) -> Iterator[PartialFile]:
    made = PartialFile(tmp_path / "part", size_bytes=len(DATA), unit_bytes=UNIT, identity="this")
    yield made
    made.close()


def arrive(
    part: PartialFile, digest: Digest, begin: int, end: int, *, step: int, span: int | None = None
) -> None:
    """As a connection hands on the bytes of a span that began at `span`."""
    for at in range(begin, end, step):
        piece = memoryview(DATA)[at : min(at + step, end)]
        part.write(piece, at)
        digest.feed(piece, at, begin if span is None else span)


def test_what_comes_in_order_is_hashed_as_it_comes(
    part: PartialFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Digest(part, hashes=True)
    monkeypatch.setattr(part, "mapped", None)  # nothing is read back
    arrive(part, digest, 0, len(DATA), step=1000)
    assert digest.position == len(DATA)
    assert digest.hexdigest() == hashlib.sha256(DATA).hexdigest()


def test_what_came_ahead_is_read_back(part: PartialFile) -> None:
    digest = Digest(part, hashes=True)
    arrive(part, digest, 4 * UNIT, len(DATA), step=700)
    assert digest.position == 0
    arrive(part, digest, 0, 4 * UNIT, step=700)
    assert digest.position == 4 * UNIT
    digest.follow(len(DATA))
    assert digest.hexdigest() == hashlib.sha256(DATA).hexdigest()


def test_a_connection_less_than_a_unit_ahead_catches_up(part: PartialFile) -> None:
    """Another thread has just hashed the units before; this connection is in the middle of the next."""
    digest = Digest(part, hashes=True)
    part.write(memoryview(DATA)[: UNIT + 500], 0)
    digest.follow(UNIT)
    arrive(part, digest, UNIT + 500, len(DATA), step=600, span=UNIT)
    assert digest.hexdigest() == hashlib.sha256(DATA).hexdigest()


def test_nothing_is_read_back_that_another_connection_may_not_have_written(part: PartialFile) -> None:
    digest = Digest(part, hashes=True)
    arrive(part, digest, 500, 900, step=100)
    assert digest.position == 0


def test_bytes_fetched_once_more_are_hashed_as_they_are_in_the_file(part: PartialFile) -> None:
    """A late write of the first try is in the file, not in what arrives: the hash must see it."""
    digest = Digest(part, hashes=True)
    arrive(part, digest, 0, UNIT, step=1000)
    digest.restart()
    arrive(part, digest, 0, len(DATA), step=1000)
    assert digest.position == 0
    part.write(memoryview(b"late"), 5000)
    while digest.position < len(DATA):
        digest.follow(len(DATA))
    late = DATA[:5000] + b"late" + DATA[5004:]
    assert digest.hexdigest() == hashlib.sha256(late).hexdigest() != hashlib.sha256(DATA).hexdigest()


def test_without_a_hash_to_compare_it_only_counts(part: PartialFile) -> None:
    digest = Digest(part, hashes=False)
    arrive(part, digest, 0, len(DATA), step=1000)
    assert digest.position == len(DATA)
    assert digest.hexdigest() is None


def test_connections_and_a_follower_together(part: PartialFile) -> None:
    """Three connections, spans in file order, in threads, and one that reads back what is whole."""
    digest = Digest(part, hashes=True)
    spans = [(at, min(at + 2 * UNIT, len(DATA))) for at in range(0, len(DATA), 2 * UNIT)]
    whole: set[int] = set()
    lock = threading.Lock()

    def connection() -> None:
        while True:
            with lock:
                if not spans:
                    return
                begin, end = spans.pop(0)
            arrive(part, digest, begin, end, step=512)
            with lock:
                whole.add(begin)

    threads = [threading.Thread(target=connection) for _ in range(3)]
    for thread in threads:
        thread.start()
    while digest.position < len(DATA):
        with lock:
            missing = [at for at in range(0, len(DATA), 2 * UNIT) if at not in whole]
        digest.follow(min(missing, default=len(DATA)))
    for thread in threads:
        thread.join()
    assert digest.hexdigest() == hashlib.sha256(DATA).hexdigest()


def test_what_is_read_back_at_once_is_bounded(tmp_path: Path) -> None:
    size = (9 << 20) + 5
    part = PartialFile(tmp_path / "part", size_bytes=size, unit_bytes=UNIT, identity="this")
    digest, positions = Digest(part, hashes=True), [0]
    mapped: list[int] = []
    reading = part.mapped

    def watched(offset: int, n_bytes: int) -> AbstractContextManager[memoryview]:
        mapped.append(n_bytes)
        return reading(offset, n_bytes)

    part.mapped = watched  # type: ignore[method-assign]
    while digest.position < size:
        digest.follow(size)
        positions.append(digest.position)
    assert positions == [0, 4 << 20, 8 << 20, size]
    assert mapped == [4 << 20, 4 << 20, (1 << 20) + 5]
    digest.follow(size)
    digest.follow(0)
    assert (digest.position, len(mapped)) == (size, 3)
    assert digest.hexdigest() == hashlib.sha256(bytes(size)).hexdigest()
    part.close()


def test_a_connection_a_whole_unit_ahead_is_left_to_the_follower(part: PartialFile) -> None:
    digest = Digest(part, hashes=True)
    part.write(memoryview(DATA)[: 2 * UNIT], 0)
    digest.feed(memoryview(DATA)[UNIT : UNIT + 9], UNIT, 0)
    assert digest.position == 0
    digest.feed(memoryview(DATA)[UNIT - 1 : UNIT + 9], UNIT - 1, 0)
    assert digest.position == UNIT + 9
    digest.feed(memoryview(DATA)[UNIT : UNIT + 9], UNIT, 0)  # behind the hash
    assert digest.position == UNIT + 9
    digest.follow(2 * UNIT)
    assert digest.hexdigest() == hashlib.sha256(DATA[: 2 * UNIT]).hexdigest()
