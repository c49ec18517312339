"""`rm` deletes only inside the store: a link that points elsewhere goes, the user's file stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.kept.list import list_stored
from launcher.models.kept.remove import remove_stored
from launcher.models.located import Located
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub
from tests.two_quants import OPTIONS, OTHER, REPO, SHARDS, listed, locate, stores

NAME = f"{REPO}:Q4_K_M"


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The user's own model, and more files."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine-Q8_0.gguf").write_bytes(OTHER)
    (folder / "notes").write_text("0123456789012345678901234567890123456789")
    return folder


@pytest.fixture
def repo(located: Located, endpoint: Endpoint, store: HubStore) -> Path:
    """The repo's folder in the Hub's cache."""
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    return endpoint.cache_dir / f"models--{REPO.replace('/', '--')}"


def remove_all(endpoint: Endpoint, store: HubStore, tmp_path: Path) -> None:
    for model in list_stored(stores(endpoint, tmp_path), store):
        remove_stored(model, store)


def unchanged(users: Path) -> bool:
    return sorted(path.name for path in users.iterdir()) == ["mine-Q8_0.gguf", "notes"]


def test_a_link_of_a_snapshot_to_the_users_file(
    *, repo: Path, users: Path, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    (snapshot,) = (repo / "snapshots").iterdir()
    for number, target in enumerate(
        (users / "mine-Q8_0.gguf", Path(os.path.relpath(users / "mine-Q8_0.gguf", snapshot)))
    ):
        (snapshot / f"m{number}-Q8_0.gguf").symlink_to(target)
    remove_all(endpoint, store, tmp_path)
    assert unchanged(users)
    assert not repo.exists()


def test_a_link_to_another_repos_blob(
    *, repo: Path, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    (snapshot,) = (repo / "snapshots").iterdir()
    other = endpoint.cache_dir / "models--b--other" / "blobs" / "abc"
    other.parent.mkdir(parents=True)
    other.write_bytes(OTHER)
    (snapshot / "m-Q8_0.gguf").symlink_to(other)
    remove_all(endpoint, store, tmp_path)
    assert other.read_bytes() == OTHER


@pytest.mark.parametrize("which", ["snapshots", "snapshots/COMMIT", "blobs", "refs"])
def test_a_folder_of_the_store_that_is_a_link(
    *, repo: Path, users: Path, endpoint: Endpoint, store: HubStore, tmp_path: Path, which: str
) -> None:
    (snapshot,) = (repo / "snapshots").iterdir()
    (users / f"{'a' * 64}.part").write_bytes(b"the user's")
    folder = repo / which.replace("COMMIT", snapshot.name)
    folder.rename(tmp_path / "away")
    folder.symlink_to(users)
    if which == "snapshots":
        (users / "commit").mkdir()
        (users / "mine-Q8_0.gguf").rename(users / "commit" / "mine-Q8_0.gguf")
    before = sorted(users.rglob("*"))
    remove_all(endpoint, store, tmp_path)
    assert sorted(users.rglob("*")) == before


@pytest.mark.parametrize("form", ["{}", "../../../../{}", "..", ".", "x" * 5000])
def test_a_ref_that_leads_out_of_the_store(
    *, repo: Path, users: Path, endpoint: Endpoint, store: HubStore, tmp_path: Path, form: str
) -> None:
    (repo / "refs" / "evil").write_text(form.format(users))
    os.mkfifo(repo / "refs" / "pipe")
    remove_all(endpoint, store, tmp_path)
    assert unchanged(users)


def test_a_pull_replaces_a_link_and_not_what_it_names(
    *, located: Located, repo: Path, users: Path, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """Its size is not the listed one: it was taken for a file cut off by a crash."""
    path = listed(endpoint, store, tmp_path)[NAME].paths[0]
    path.resolve().unlink()
    path.unlink()
    path.symlink_to(users / "mine-Q8_0.gguf")
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert unchanged(users)
    assert path.read_bytes() == next(iter(SHARDS.values()))
