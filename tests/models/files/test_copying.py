"""Copies where files cannot be linked, and models of this machine put into a folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import NoReturn

import pytest

from launcher.errors import HashMismatch, TryAgain, UsageError
from launcher.gguf.model import Shard
from launcher.models.files.copying import Copier, put_into_folder
from launcher.models.files.plain_folder import PlainFolder
from launcher.models.local import open_path
from launcher.models.located import PullOptions
from launcher.models.store import HubStore
from launcher.models.transfer.partial_file import PartialFile
from launcher.progress import Step, silent
from launcher.system.locks import exclusive
from tests.pulling_into_folder import NAME, ONE, SHARDS, TWO, Pulling, write


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("other_disk")
def test_a_folder_on_another_disk_gets_copies(pulling: Pulling) -> None:
    located = pulling.locate("user/repo", SHARDS)
    cached = pulling.into(None, located)
    pulling.hub.seen.clear()
    pulling.steps.clear()
    paths = pulling.into(pulling.folder, located)
    for path in cached:
        path.resolve().unlink()
    assert [path.is_symlink() for path in paths] == [False, False]
    assert ([path.read_bytes() for path in paths], pulling.hub.seen) == (list(SHARDS.values()), [])
    size = sum(map(len, SHARDS.values()))
    copied = [(step.done, step.total) for step in pulling.steps if step.phase == "copy"]
    assert copied == [(len(next(iter(SHARDS.values()))), size), (size, size)]
    assert not list(pulling.folder.glob("*.part*"))


@pytest.mark.usefixtures("other_disk")
def test_a_copy_waits_for_whoever_fills_the_file(pulling: Pulling) -> None:
    located = pulling.locate("user/repo", SHARDS)
    pulling.into(None, located)
    pulling.hub.seen.clear()
    place = PlainFolder(pulling.folder, "user/repo", pulling.store)
    with ThreadPoolExecutor(1) as pool, exclusive(place.lock_path(located.model.shards[0])) as held:
        second = place.path(located.model.shards[1])
        paths = pool.submit(pulling.into, pulling.folder, located)
        while not second.exists():
            wait([paths], timeout=0.01)
        assert not paths.done()
        fcntl.flock(held, fcntl.LOCK_UN)
        found = paths.result(60)
    assert ([path.read_bytes() for path in found], pulling.hub.seen) == (list(SHARDS.values()), [])


@pytest.mark.usefixtures("other_disk")
def test_copies_need_room_too(pulling: Pulling, monkeypatch: pytest.MonkeyPatch) -> None:
    located = pulling.locate("user/repo", SHARDS)
    pulling.into(None, located)
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 (as shutil's)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 10))
    with pytest.raises(TryAgain, match="user/repo needs"):
        pulling.into(pulling.folder, located)
    assert not list(pulling.folder.glob("*.gguf*"))


def begun(store: HubStore, tmp_path: Path, first: bytes) -> tuple[PlainFolder, Shard, Path]:
    """A copy of two units of which the first is there, as `first`; the source has another one by now."""
    unit, second = 8 << 20, b"second"
    shard = Shard(name=NAME, size_bytes=unit + 6, sha256=hashlib.sha256(bytes(unit) + second).hexdigest())
    place = PlainFolder(tmp_path / "plain", "a/m", store)
    identity = place.identity(shard.sha256 or "")
    part = PartialFile(
        place.partial_path(shard), size_bytes=shard.size_bytes, unit_bytes=unit, identity=identity
    )
    part.write(memoryview(first), 0)
    part.mark([0])
    part.sync()
    part.close()
    return place, shard, write(tmp_path / "source", b"x" * unit + second)


def test_a_copy_goes_on_where_it_was_broken_off(store: HubStore, tmp_path: Path) -> None:
    place, shard, source = begun(store, tmp_path, bytes(8 << 20))
    Copier(place=place, retry="launcher pull m", on_progress=silent).copy(shard, source)
    assert place.path(shard).read_bytes() == bytes(8 << 20) + b"second"
    assert [path.name for path in place.root.iterdir()] == [NAME]


def test_a_copy_that_is_not_right_is_removed(store: HubStore, tmp_path: Path) -> None:
    place, shard, source = begun(store, tmp_path, b"damage" + bytes((8 << 20) - 6))
    with pytest.raises(HashMismatch, match="the copy of"):
        Copier(place=place, retry="launcher pull m", on_progress=silent).copy(shard, source)
    assert list(place.root.iterdir()) == []


@pytest.mark.usefixtures("other_disk")
def test_a_local_model_is_copied_once_and_again_when_it_changed(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    located, steps = open_path(source), list[Step]()
    options = PullOptions(folder=tmp_path / "plain")
    for _ in range(2):
        (path,) = put_into_folder(located, store=store, options=options, on_progress=steps.append)
        assert (path.read_bytes(), path.is_symlink(), len(steps)) == (ONE, False, 1)
    changed = ONE[:-1] + b"x"
    write(source, changed)
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(source, ns=(later, later))
    put_into_folder(open_path(source), store=store, options=options, on_progress=steps.append)
    assert (path.read_bytes(), len(steps)) == (changed, 2)


def test_a_local_model_replaces_no_file_of_the_users(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    (tmp_path / "plain").mkdir()
    path = write(tmp_path / "plain" / NAME, TWO)
    with pytest.raises(UsageError, match="not put there by launcher"):
        put_into_folder(open_path(source), store=store, options=PullOptions(folder=path.parent))
    assert path.read_bytes() == TWO


def test_a_local_model_of_the_folder_itself_stays_the_users(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    assert put_into_folder(open_path(source), store=store, options=PullOptions(folder=tmp_path)) == (source,)
    assert store.owners().folders() == frozenset()


def test_a_local_model_is_not_linked_over_what_another_pull_writes(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    located = open_path(source)
    model = located.model
    place = PlainFolder(tmp_path / "plain", "a/m", store)
    with (
        exclusive(place.lock_path(model.shards[0])),
        pytest.raises(TryAgain, match="written by another program"),
    ):
        put_into_folder(located, store=store, options=PullOptions(folder=place.root))
    assert not place.path(model.shards[0]).exists()


def test_a_file_of_the_users_that_took_the_place_of_a_local_models_stays(
    store: HubStore, tmp_path: Path
) -> None:
    source = write(tmp_path / NAME, ONE)
    (path,) = put_into_folder(open_path(source), store=store, options=PullOptions(folder=tmp_path / "plain"))
    path.unlink()
    write(path, TWO)
    with pytest.raises(UsageError, match="exchanged since launcher put one there"):
        put_into_folder(open_path(source), store=store, options=PullOptions(folder=path.parent))
    assert path.read_bytes() == TWO
