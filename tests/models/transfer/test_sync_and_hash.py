"""When a shard is hashed and synced; late writes are in test_receiving.py."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.models.transfer import sync_and_hash
from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.state import OpenShard, ShardComplete, TransferState
from launcher.models.transfer.sync_and_hash import hash_rest, sync_all
from launcher.models.transfer.tuning import Tuning

UNIT = 4096
TUNING = Tuning(connections=1, span_bytes=8 * UNIT, unit_bytes=UNIT)


def shard_of(folder: Path, size: int, whole: tuple[int, ...]) -> tuple[TransferState, OpenShard]:
    """A shard whose units `whole` are here; who waits for more ends the transfer."""
    partial_file = PartialFile(folder / "x.part", size_bytes=size, unit_bytes=UNIT, identity="x")
    download = Download(
        name="x",
        size_bytes=size,
        sha256="0" * 64,
        url="http://x/x",
        partial_path=partial_file.path,
        lock_path=folder / "x.lock",
        identity="x",
    )
    opened = OpenShard(
        download=download,
        partial_file=partial_file,
        lock=ExitStack(),
        digest=Digest(partial_file, hashes=True),
    )
    state = TransferState(TUNING)
    state.schedule.open(0, size, whole)
    state.open[0] = opened

    def end(*_: object) -> bool:
        state.stopped = True
        return True

    state.changed.wait = end  # type: ignore[method-assign]
    return state, opened


@pytest.mark.parametrize(("size", "n_units"), [(0, 0), (1, 1), (UNIT, 1), (3 * UNIT + 7, 4)])
def test_a_shard_that_is_all_here_is_hashed_and_reported(tmp_path: Path, size: int, n_units: int) -> None:
    state, opened = shard_of(tmp_path, size, tuple(range(n_units)))
    hash_rest(state, 0, opened, state.schedule.generation(0))
    expected = hashlib.sha256(bytes(size)).hexdigest()
    assert state.events.get_nowait() == ShardComplete(shard=0, sha256=expected)
    opened.partial_file.close()


@pytest.mark.parametrize(("whole", "hashed"), [((), 0), ((1, 2), 0), ((0,), UNIT), ((0, 1, 2), 3 * UNIT)])
def test_what_is_here_without_a_gap_is_hashed_and_the_rest_waited_for(
    tmp_path: Path, whole: tuple[int, ...], hashed: int
) -> None:
    state, opened = shard_of(tmp_path, 3 * UNIT + 7, whole)
    hash_rest(state, 0, opened, state.schedule.generation(0))
    assert (state.stopped, opened.digest.position) == (True, hashed)
    with pytest.raises(queue.Empty):
        state.events.get_nowait()
    opened.partial_file.close()


def test_an_ended_transfer_hashes_no_more(tmp_path: Path) -> None:
    state, opened = shard_of(tmp_path, UNIT, (0,))
    state.stopped = True
    hash_rest(state, 0, opened, state.schedule.generation(0))
    assert (opened.digest.position, state.events.empty()) == (0, True)
    opened.partial_file.close()


def test_what_is_fetched_anew_is_hashed_anew(tmp_path: Path) -> None:
    state, opened = shard_of(tmp_path, 2 * UNIT, (0, 1))
    opened.digest.follow(UNIT)
    before = state.schedule.generation(0)
    state.schedule.restart(0)
    hash_rest(state, 0, opened, before)
    assert (opened.digest.position, state.events.empty()) == (0, True)
    opened.partial_file.close()


def watch_sync(state: TransferState, opened: OpenShard, then: Callable[[], None]) -> list[int]:
    """Return the bytes of each sync as they come; after each, `then` is called."""
    synced: list[int] = []
    sync = opened.partial_file.sync

    def watched() -> int:
        synced.append(sync())
        then()
        return synced[-1]

    opened.partial_file.sync = watched  # type: ignore[method-assign]
    return synced


def test_what_waits_for_the_disk_is_synced_without_waiting_for_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_and_hash, "_SYNC_EVERY_S", 1e5)
    state, opened = shard_of(tmp_path, 8 * UNIT, ())
    span = state.schedule.take(0.0)
    assert not isinstance(span, float | None)
    opened.partial_file.mark(state.schedule.advance(span, 3 * UNIT))
    assert state.schedule.wants_sync()
    synced = watch_sync(state, opened, lambda: setattr(state, "stopped", True))
    sync_all(state)
    assert synced == [3 * UNIT]
    assert not state.schedule.wants_sync()
    opened.partial_file.close()


def test_an_ended_transfer_syncs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_and_hash, "_SYNC_EVERY_S", 1e5)
    state, opened = shard_of(tmp_path, UNIT, ())
    synced = watch_sync(state, opened, lambda: None)
    state.stopped = True
    sync_all(state)
    assert synced == []
    opened.partial_file.close()
