from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import BadGguf, TryAgain, UsageError
from launcher.gguf.model import Shard
from launcher.models import store as store_module
from launcher.models.local import open_path
from launcher.models.located import Located
from launcher.models.store import HubStore, Listing, write_hollow
from launcher.system.atomic_files import write_atomically
from tests.tiny_gguf import tiny_gguf, tiny_split

COMMIT = "c" * 40
TIB = 1 << 40


@pytest.fixture
def located(tmp_path: Path) -> Located:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in tiny_split("big-Q4_0", 2).items():
        (folder / name).write_bytes(content)
    return open_path(folder)


def huge(located: Located) -> Located:
    """The same headers in front of a TiB per shard."""
    shards = tuple(replace(shard, size_bytes=TIB) for shard in located.model.shards)
    return replace(located, model=replace(located.model, shards=shards))


def test_a_hollow_copy_has_the_true_size_and_takes_no_room(located: Located, tmp_path: Path) -> None:
    paths = write_hollow(huge(located), tmp_path / "hollow")
    assert [path.name for path in paths] == ["big-Q4_0-00001-of-00002.gguf", "big-Q4_0-00002-of-00002.gguf"]
    for path, raw in zip(paths, located.raw_headers, strict=True):
        stat = path.stat()
        assert stat.st_size == TIB
        assert stat.st_blocks * 512 < 64 << 10
        with path.open("rb") as file:
            assert raw == file.read(len(raw))
            assert bytes(100) == file.read(100)
    again = open_path(tmp_path / "hollow")
    assert located.model.headers == again.model.headers
    assert paths == write_hollow(huge(located), tmp_path / "hollow")
    assert len(list((tmp_path / "hollow").iterdir())) == 2


def test_headers_that_do_not_fit_the_size_are_refused(located: Located, tmp_path: Path) -> None:
    shards = tuple(replace(shard, size_bytes=100) for shard in located.model.shards)
    with pytest.raises(BadGguf):
        write_hollow(replace(located, model=replace(located.model, shards=shards)), tmp_path / "hollow")


def test_a_file_system_that_fills_holes_is_refused(
    located: Located, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FAT does: every byte of the probe is on the disk."""
    real = os.fstat

    class Filled:
        def __init__(self, descriptor: int) -> None:
            self._stat = real(descriptor)
            self.st_blocks = self._stat.st_size // 512

        def __getattr__(self, name: str) -> object:
            return getattr(self._stat, name)

    monkeypatch.setattr(store_module.os, "fstat", Filled)
    with pytest.raises(UsageError, match=r"has no holes: a hollow model would take 2\.0 TiB") as caught:
        write_hollow(huge(located), tmp_path / "hollow")
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")
    assert list((tmp_path / "hollow").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(located: Located, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TryAgain, match="cannot be written"):
        write_hollow(located, tmp_path / "file" / "hollow")


def test_a_header_is_kept_for_one_file_of_one_size(store: HubStore) -> None:
    assert store.header("u/r", COMMIT, "x.gguf", 9) is None
    store.keep_header("u/r", COMMIT, "x.gguf", 9, b"head\ner")
    assert store.header("u/r", COMMIT, "x.gguf", 9) == b"head\ner"
    assert store.header("u/r", COMMIT, "x.gguf", 10) is None
    assert store.header("u/r", COMMIT, "y.gguf", 9) is None
    assert store.header("u/r", "d" * 40, "x.gguf", 9) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"null\nhead", b"\xff\n", b'{"repo": 1}\nhead'])
def test_damaged_entries_count_as_absent(store: HubStore, damage: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"x")
    store.keep_header("u/r", COMMIT, "x.gguf", 9, b"head")
    store.keep_listing(Listing(repo="u/r", commit=COMMIT, revision=None, files=()))
    store.keep_verified(file, "0")
    store.keep_folders([tmp_path])
    store.keep_owner(file, "u/r")
    assert (store.folders(), store.owners().of(file)) == ((tmp_path,), "u/r")
    for path in [path for path in store.folder.rglob("*") if path.is_file()]:
        path.write_bytes(damage)
    assert store.header("u/r", COMMIT, "x.gguf", 9) is None
    assert store.listing("u/r", COMMIT) is None
    assert not store.is_verified(file, "0")
    assert (store.folders(), store.owners().of(file)) == ((), None)
    store.keep_verified(file, "0")
    assert store.is_verified(file, "0")


def test_a_flipped_byte_in_a_kept_header_is_noticed(store: HubStore) -> None:
    store.keep_header("u/r", COMMIT, "x.gguf", 9, b"head")
    (path,) = (store.folder / "headers").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    assert store.header("u/r", COMMIT, "x.gguf", 9) is None


def test_the_headers_used_longest_ago_go_first(store: HubStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_HEADERS_BYTES", 3500)
    for index in range(3):
        store.keep_header("u/r", COMMIT, f"{index}.gguf", 9, bytes(900))
    for age, path in enumerate((store.folder / "headers").iterdir()):
        os.utime(path, (100 + age, 100 + age))
    assert store.header("u/r", COMMIT, "0.gguf", 9) is not None  # used now
    store.keep_header("u/r", COMMIT, "3.gguf", 9, bytes(900))
    kept = [index for index in range(4) if store.header("u/r", COMMIT, f"{index}.gguf", 9) is not None]
    assert (len(kept), 0 in kept, 3 in kept) == (3, True, True)


def test_listings_are_kept_whole_and_bounded(store: HubStore, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Listing(
        repo="u/r",
        commit=COMMIT,
        revision=None,
        files=(Shard(name="a.gguf", size_bytes=1, sha256="f" * 64), Shard(name="b.gguf", size_bytes=2)),
    )
    store.keep_listing(listing)
    assert listing == store.listing("u/r", COMMIT)
    monkeypatch.setattr(store_module, "_MOST_LISTINGS", 3)
    for index in range(5):
        store.keep_listing(replace(listing, commit=f"{index}" * 40))
    assert len(list((store.folder / "listings").iterdir())) == 3


def test_a_changed_file_is_not_the_verified_one(store: HubStore, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    store.keep_verified(path, "a")
    assert (store.is_verified(path, "a"), store.is_verified(path, "b")) == (True, False)
    os.utime(path, ns=(1, 1))
    assert not store.is_verified(path, "a")
    path.unlink()
    assert not store.is_verified(path, "a")


def test_what_several_pulls_verify_at_once_is_all_remembered(store: HubStore, tmp_path: Path) -> None:
    def keep(name: int) -> Path:
        path = tmp_path / str(name)
        path.write_bytes(b"x")
        store.keep_verified(path, "a")
        return path

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(keep, range(40)))
    assert [path.name for path in paths if not store.is_verified(path, "a")] == []


def test_a_store_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = HubStore(folder=tmp_path / "file")
    store.keep_header("u/r", COMMIT, "x.gguf", 9, b"head")
    store.keep_listing(Listing(repo="u/r", commit=COMMIT, revision=None, files=()))
    store.keep_verified(tmp_path / "file", "a")
    assert (store.header("u/r", COMMIT, "x.gguf", 9), store.listing("u/r", COMMIT)) == (None, None)


def test_an_atomic_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert (path.read_bytes(), [entry.name for entry in tmp_path.iterdir()]) == (b"old", ["x"])


def test_tiny_models_are_what_they_claim() -> None:
    assert len(tiny_gguf(n_values=1000)) > 4000
