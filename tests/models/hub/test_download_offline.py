"""Downloads where no server may be asked: what is found here, and the command that may ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import HashMismatch, NotFound
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import Located, PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub
from tests.pulling import QUICK, damage
from tests.tiny_gguf import tiny_split

REPO = "user/repo"
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=60_000)


@pytest.fixture
def offline(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, offline=True)


def options(folder: Path, again: str = "") -> PullOptions:
    return PullOptions(tuning=QUICK, folder=folder, again=again)


def locate(endpoint: Endpoint, store: HubStore) -> Located:
    return open_repo(ModelRef(kind=RefKind.HUB, name=REPO), endpoint=endpoint, store=store)


def test_what_was_pulled_into_a_folder_is_found_there(
    hub: FakeHub, endpoint: Endpoint, offline: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """The Hub's cache knows nothing of the repo."""
    hub.publish(REPO, SHARDS)
    with pytest.raises(NotFound, match="may not be asked"):
        locate(offline, store)
    paths = fetch_hub_files(
        locate(endpoint, store), endpoint=endpoint, store=store, options=options(tmp_path / "mine")
    )
    hub.seen.clear()
    found = locate(offline, store)
    assert fetch_hub_files(found, endpoint=offline, store=store, options=options(tmp_path / "mine")) == paths
    assert hub.seen == []


def test_what_the_cache_had_before_is_found_in_the_folder_without_the_cache(
    hub: FakeHub, endpoint: Endpoint, offline: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    """Its headers were read there."""
    hub.publish(REPO, SHARDS)
    fetch_hub_files(
        locate(endpoint, store), endpoint=endpoint, store=store, options=PullOptions(tuning=QUICK)
    )
    fresh = HubStore(folder=tmp_path / "fresh")
    paths = fetch_hub_files(
        locate(endpoint, fresh), endpoint=endpoint, store=fresh, options=options(tmp_path / "mine")
    )
    elsewhere = replace(offline, cache_dir=tmp_path / "other")
    found = locate(elsewhere, fresh)
    assert (
        fetch_hub_files(found, endpoint=elsewhere, store=fresh, options=options(tmp_path / "mine")) == paths
    )


def test_a_folder_without_the_files_is_the_one_named(
    hub: FakeHub, endpoint: Endpoint, offline: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    hub.publish(REPO, SHARDS)
    asked = options(tmp_path / "mine", again="launcher pull user/repo --dir '/a --offline' --offline")
    with pytest.raises(NotFound, match=f"is not in {tmp_path}/mine, and the Hub may not be asked") as caught:
        fetch_hub_files(locate(endpoint, store), endpoint=offline, store=store, options=asked)
    assert caught.value.hint == "launcher pull user/repo --dir '/a --offline'"


def test_a_damaged_file_is_fetched_anew_by_the_command_of_the_hint(
    hub: FakeHub,
    endpoint: Endpoint,
    offline: Endpoint,
    store: HubStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the variable set the same command would fail again."""
    hub.publish(REPO, SHARDS)
    located = locate(endpoint, store)
    asked = options(tmp_path / "mine", again=f"launcher pull {REPO}")
    path = fetch_hub_files(located, endpoint=endpoint, store=store, options=asked)[0]
    damage(path, path.read_bytes()[:-1] + b"X")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HashMismatch, match="nothing was removed") as caught:
        fetch_hub_files(located, endpoint=offline, store=store, options=replace(asked, verify=True))
    assert (caught.value.hint or "").endswith(f": env -u HF_HUB_OFFLINE launcher pull {REPO}")
