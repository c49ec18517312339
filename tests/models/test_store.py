from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.gguf.model import Shard
from launcher.models import store as store_module
from launcher.models.store import HubStore, Listing

COMMIT = "c" * 40


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
