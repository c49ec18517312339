"""Disks without room: what is said, and what is let alone."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import TryAgain
from launcher.hub.download import pull
from launcher.hub.endpoint import Endpoint
from launcher.hub.located import Located, PullOptions
from launcher.hub.repo import open_repo
from launcher.hub.store import HubStore
from launcher.model import ModelRef, RefKind
from tests.fakes.hub import FakeHub
from tests.pulling import QUICK
from tests.tiny_gguf import tiny_split

REPO = "user/repo"
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=100_000)
TOTAL = sum(map(len, SHARDS.values()))
OPTIONS = PullOptions(tuning=QUICK)

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
    with pytest.raises(TryAgain, match="needs .* has 10 B free"):
        pull(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert all(b"damage" in path.read_bytes() for path in paths)
    set_free(TOTAL // 2 + TOTAL // 20)
    again = pull(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert [path.read_bytes() for path in again] == list(SHARDS.values())
