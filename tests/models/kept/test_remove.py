"""Removing models: what others use stays, and what is the user's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import TryAgain
from launcher.models.files.copying import put_into_folder
from launcher.models.files.plain_folder import PlainFolder, lock_path_of
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.kept.list import list_stored
from launcher.models.kept.remove import remove_stored
from launcher.models.local import open_path
from launcher.models.located import Located, PullOptions
from launcher.models.store import HubStore
from launcher.system.locks import exclusive
from tests.fakes.hub import FakeHub
from tests.pulling_into_folder import NAME, ONE, Pulling, write
from tests.tiny_gguf import tiny_split
from tests.two_quants import OPTIONS, OTHER, REPO, SHARDS, listed, locate, stores


def test_the_users_folder_stays_when_its_last_file_goes(pulling: Pulling, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    pulling.folder.mkdir()
    put_into_folder(open_path(source), store=pulling.store, options=PullOptions(folder=pulling.folder))
    shutil.rmtree(pulling.folder / ".locks")
    (one,) = pulling.listed()
    remove_stored(one, pulling.store)
    assert pulling.folder.is_dir()


def test_a_part_below_another_named_folder_is_under_its_lock(pulling: Pulling) -> None:
    pulling.interrupted("a/m", {f"sub/{NAME}": ONE})
    (shard,) = pulling.locate("a/m", {f"sub/{NAME}": ONE}).model.shards
    pulling.store.keep_folders([pulling.folder / "sub"])
    (one,) = pulling.listed()
    assert (one.folder, one.store) == (pulling.folder / "sub", "launcher")
    lock = PlainFolder(pulling.folder, "a/m", pulling.store).lock_path(shard)
    with exclusive(lock), pytest.raises(TryAgain, match="is being downloaded"):
        remove_stored(one, pulling.store)
    assert one.parts[0].exists()
    assert remove_stored(one, pulling.store) > 0


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


def test_removing_frees_what_nothing_else_uses(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """A second commit has the first shard too; one quant goes, then the rest."""
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    fetch_hub_files(locate(hub, endpoint, store, "Q8_0"), endpoint=endpoint, store=store, options=OPTIONS)
    old = listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"]
    first, second = SHARDS.items()
    hub.publish(
        REPO, {first[0]: first[1], second[0]: tiny_split("x", 2, n_values=100_000, seed=4).popitem()[1]}
    )
    fetch_hub_files(locate(hub, endpoint, store), endpoint=endpoint, store=store, options=OPTIONS)
    assert remove_stored(old, store) == len(second[1])
    left = list_stored(stores(endpoint, tmp_path), store)
    assert sorted((one.name, one.is_whole) for one in left) == [
        (f"{REPO}:Q4_K_M", True),
        (f"{REPO}:Q8_0", True),
    ]
    freed = sum(remove_stored(one, store) for one in left)
    assert freed == len(first[1]) + len(second[1]) + len(OTHER)
    assert list(endpoint.cache_dir.glob("models--*")) == []


def test_removing_a_link_leaves_the_file(
    *, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    for name, content in SHARDS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    fetch_hub_files(located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(folder,)))
    assert remove_stored(listed(endpoint, store, tmp_path)[f"{REPO}:Q4_K_M"], store) == 0
    assert [(folder / name).read_bytes() for name in SHARDS] == list(SHARDS.values())


def test_removing_leaves_the_lock_to_whoever_holds_it_next(
    endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """A pull that opened the lock's file while this held it waits for that very file."""
    folder = tmp_path / "models" / "x"
    folder.mkdir(parents=True)
    part = folder / "m-Q8_0.gguf.part"
    part.write_bytes(OTHER)
    (one,) = list_stored(stores(endpoint, tmp_path), store)
    lock = lock_path_of(folder / "m-Q8_0.gguf")
    lock.parent.mkdir()
    lock.touch()
    before = lock.stat().st_ino
    assert remove_stored(one, store) > 0
    assert (lock.stat().st_ino, part.exists()) == (before, False)
