"""Files that are on this machine already: found by their hash, linked, or passed over."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import Located
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.progress import Step
from tests.fakes.hub import FakeHub
from tests.two_quants import OPTIONS, SHARDS, locate


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


def test_files_of_a_folder_are_verified_and_linked(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """Whatever they are called; one with the right size and other bytes is passed over."""
    folder = tmp_path / "mine"
    folder.mkdir()
    first, second = SHARDS.values()
    (folder / "a.gguf").write_bytes(first)
    (folder / "b.gguf").write_bytes(second[:-40] + bytes(40))
    paths = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(tmp_path,))
    )
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert paths[0].samefile(folder / "a.gguf")
    assert {True} == {"00002" in seen.path for seen in hub.asked("storage")}


def test_a_file_of_a_folder_that_cannot_be_read_is_passed_over_and_named(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As another user's are; refused here by name, since root may read everything."""
    folder = tmp_path / "mine"
    folder.mkdir()
    first, second = SHARDS.values()
    (folder / "mine.gguf").write_bytes(first)
    (folder / "theirs.gguf").write_bytes(second)
    open_ = os.open

    def refuse(path: str | Path, flags: int, *mode: int, dir_fd: int | None = None) -> int:
        if str(path).endswith("theirs.gguf"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_(path, flags, *mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    steps: list[Step] = []
    options = replace(OPTIONS, look_in=(folder,))
    paths = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=options, on_progress=steps.append
    )
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert paths[0].samefile(folder / "mine.gguf")
    said = [step.text for step in steps if step.is_remark]
    assert said == [f"{folder}/theirs.gguf cannot be read: Permission denied; it is not used"]


def test_what_another_repo_of_the_cache_has_is_linked(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    hub.publish("other/copy", SHARDS)
    ref = ModelRef(kind=RefKind.HUB, name="other/copy", quant="Q4_K_M")
    copy = open_repo(ref, endpoint=endpoint, store=store)
    hub.seen.clear()
    paths = fetch_hub_files(copy, endpoint=endpoint, store=store, options=OPTIONS)
    assert (list(SHARDS.values()), []) == ([path.read_bytes() for path in paths], hub.seen)


def test_a_plain_folder_gets_the_files_under_their_names(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    options = replace(OPTIONS, folder=tmp_path / "plain")
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=options)
    assert [tmp_path / "plain" / name for name in SHARDS] == list(paths)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert not endpoint.cache_dir.exists()
    assert not list(tmp_path.glob("plain/**/*.part*"))
    hub.seen.clear()
    assert paths == fetch_hub_files(located, endpoint=endpoint, store=store, options=options)
    back = fetch_hub_files(
        located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(tmp_path / "plain",))
    )
    assert (hub.seen, True) == ([], back[0].samefile(paths[0]))


def test_verify_reads_again_what_was_found_right(
    hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    steps: list[Step] = []
    again = replace(OPTIONS, verify=True)
    assert paths == fetch_hub_files(
        located, endpoint=endpoint, store=store, options=again, on_progress=steps.append
    )
    assert [step.done for step in steps if step.phase == "verify"][-1] == sum(map(len, SHARDS.values()))


def test_a_linked_file_that_is_damaged_is_let_alone_and_fetched(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """Only our name for it goes: the file is the user's."""
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(next(iter(SHARDS.values())))
    fetch_hub_files(located, endpoint=endpoint, store=store, options=replace(OPTIONS, look_in=(tmp_path,)))
    with mine.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert list(SHARDS.values()) == [path.read_bytes() for path in paths]
    assert b"damage" in mine.read_bytes()
