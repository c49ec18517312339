"""Disks without room: what is said, and what is let alone."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import TryAgain
from launcher.hub.download import pull
from launcher.hub.endpoint import Endpoint
from launcher.hub.located import Located, PullOptions
from launcher.hub.repo import open_repo
from launcher.hub.store import HubStore
from launcher.hub.transfer import part
from launcher.hub.transfer.journal import arrived_bytes
from launcher.model import ModelRef, RefKind
from tests.fakes.hub import FakeHub
from tests.pulling import QUICK, UNIT
from tests.tiny_gguf import tiny_split

REPO = "user/repo"
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=100_000)
TOTAL = sum(map(len, SHARDS.values()))
OPTIONS = PullOptions(tuning=QUICK)
ONE_LINE = PullOptions(tuning=replace(QUICK, connections=1))

SetFree = Callable[[int], None]


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    hub.publish(REPO, SHARDS)
    found = open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)
    hub.seen.clear()
    return found


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> SetFree:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 (what shutil returns)
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, free))


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")


def test_a_damaged_file_stays_where_its_removal_would_not_make_room_enough(
    *, located: Located, endpoint: Endpoint, store: HubStore, set_free: SetFree
) -> None:
    """Of two, one is a hard link of a file that stays: removing it frees nothing."""
    paths = pull(located, endpoint=endpoint, store=store, options=OPTIONS)
    (endpoint.cache_dir / "mine").hardlink_to(paths[0].resolve())
    for path in paths:
        damage(path)
    set_free(10)
    with pytest.raises(TryAgain, match=r"needs .* has 10 B free"):
        pull(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert all(b"damage" in path.read_bytes() for path in paths)
    set_free(TOTAL * 51 // 50 - paths[1].stat().st_blocks * 512)
    again = pull(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert [path.read_bytes() for path in again] == list(SHARDS.values())


def test_what_is_too_little_is_said_where_the_figures_look_the_same(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, set_free: SetFree
) -> None:
    set_free(TOTAL * 51 // 50 - 100)
    with pytest.raises(TryAgain, match=r"needs 797.* has 797.* free: 100 B too little") as caught:
        pull(located, endpoint=endpoint, store=store, options=OPTIONS)
    hint = caught.value.hint or ""
    assert hint.startswith("free 100 B there, or set HF_HUB_CACHE")
    assert hint.endswith("launcher ls, then launcher rm MODEL")
    assert hub.seen == []


@pytest.mark.parametrize(
    ("number", "what"), [(errno.ENOSPC, "the file system"), (errno.EDQUOT, "your quota on the file system")]
)
def test_a_write_that_finds_the_disk_full_keeps_what_has_arrived(
    *,
    hub: FakeHub,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    set_free: SetFree,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    what: str,
) -> None:
    """A file system without preallocation, full after 400 KiB."""
    pwrite, most, written = os.pwrite, 400 << 10, 0

    def bounded(descriptor: int, data: memoryview, offset: int) -> int:
        nonlocal written
        if written >= most:
            set_free(0)
            raise OSError(number, os.strerror(number))
        written += len(data)
        return pwrite(descriptor, data, offset)

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", bounded)
        full.setattr(part, "_preallocate", os.ftruncate)
        with pytest.raises(TryAgain) as caught:
            pull(
                located, endpoint=endpoint, store=store, options=replace(ONE_LINE, again="launcher pull big")
            )
    message, hint = caught.value.message, caught.value.hint or ""
    needed = r"3\d\d\.. KiB"  # of 797
    said = f"{what} of {endpoint.cache_dir} ran full; what has arrived is kept: {needed} more are needed, and 0 B are free"
    assert re.fullmatch(said, message)
    ways = r"\(launcher ls, then launcher rm MODEL\), or set HF_HUB_CACHE to another folder"
    assert re.fullmatch(f"free {needed} there {ways}; it goes on where it stopped: launcher pull big", hint)
    kept = sum(map(arrived_bytes, endpoint.cache_dir.glob("models--*/blobs/*.part")))
    whole = sum(path.stat().st_size for path in endpoint.cache_dir.glob("models--*/snapshots/*/*"))
    assert kept + whole > most - 2 * UNIT
    hub.seen.clear()
    set_free(TOTAL)
    paths = pull(located, endpoint=endpoint, store=store, options=ONE_LINE)
    assert [path.read_bytes() for path in paths] == list(SHARDS.values())
    assert any(seen.range for seen in hub.asked("storage"))


def test_a_disk_that_breaks_the_promise_of_preallocation_is_named_with_what_is_free(
    *,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    monkeypatch: pytest.MonkeyPatch,
    set_free: SetFree,
) -> None:
    """As thin volumes do: by its blocks, nothing is lacking."""

    def refuse(*_: object) -> int:
        set_free(0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(TryAgain, match="ran full; what has arrived is kept, and 0 B are free") as caught:
        pull(located, endpoint=endpoint, store=store, options=ONE_LINE)
    assert (caught.value.hint or "").startswith("free space there (launcher ls")
