"""The layout of the Hub's cache: links to blobs, and file systems without links."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import TryAgain
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.located import Located
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub
from tests.models.hub.test_local_copies import OPTIONS, SHARDS, locate, place_of


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


def test_two_pulls_that_name_one_blob_leave_it_in_its_place(
    *, located: Located, endpoint: Endpoint, store: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the other one's link appears, it is no file system without links."""
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    pointer, blob = paths[0], paths[0].resolve()
    place, link, symlink_to = place_of(located, endpoint), pointer.readlink(), Path.symlink_to

    def late(path: Path, target: str, target_is_directory: bool = False) -> None:
        if not os.path.lexists(pointer):
            symlink_to(pointer, link)  # the other one
        symlink_to(path, target, target_is_directory)

    monkeypatch.setattr(Path, "symlink_to", late)
    pointer.unlink()
    assert place.find(located.model.shards[0]) == pointer
    assert (pointer.readlink(), pointer.resolve(), blob.is_symlink()) == (link, blob, False)
    assert {path.name for path in pointer.parent.iterdir()} == set(SHARDS)


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_symbolic_links_the_file_itself_is_where_the_link_would_be(
    *,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    monkeypatch: pytest.MonkeyPatch,
    refusal: int,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "symlink", refuse)
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert [path.read_bytes() for path in paths] == list(SHARDS.values())
    assert not any(path.is_symlink() for path in paths)
    assert paths == fetch_hub_files(
        located, endpoint=replace(endpoint, offline=True), store=store, options=OPTIONS
    )


def test_a_link_that_fails_for_another_reason_is_no_reason_to_move_the_blob(
    *, located: Located, endpoint: Endpoint, store: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "symlink", refuse)
        with pytest.raises(TryAgain, match="Input/output error"):
            fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert [path.resolve().parent.name for path in paths] == ["blobs", "blobs"]
