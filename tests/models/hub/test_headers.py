"""Headers of a repo's files, by ranges or from the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import UsageError
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import HubFiles
from launcher.models.store import HubStore
from tests.fakes.hub import FakeHub, Fault
from tests.models.hub.test_repo import FILES, Q4, Q8, REPO, ref


@pytest.fixture
def commit(hub: FakeHub) -> str:
    return hub.publish(REPO, FILES)


def test_headers_come_by_ranges_and_only_once(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    located = open_repo(ref("Q4_K_XL"), endpoint=endpoint, store=store)
    assert list(Q4) == [shard.name for shard in located.model.shards]
    assert [len(content) for content in Q4.values()] == [shard.size_bytes for shard in located.model.shards]
    assert len(located.model.tensors) == 3
    assert [
        content[: len(raw)] for content, raw in zip(Q4.values(), located.raw_headers, strict=True)
    ] == list(located.raw_headers)
    assert HubFiles(repo=REPO, commit=commit, names=tuple(Q4), revision="main") == located.files
    asked = hub.asked("storage")
    assert (3, {"bytes=0-65535"}) == (len(asked), {seen.range for seen in asked})
    hub.seen.clear()
    assert located == open_repo(ref("Q4_K_XL"), endpoint=endpoint, store=store)
    assert hub.asked("storage") == []


def test_a_server_that_ignores_ranges_is_read_from_the_start(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    hub.faults.append(Fault(ignore_range=True))
    located = open_repo(ref("Q8_0"), endpoint=endpoint, store=store)
    assert Q8[: len(located.raw_headers[0])] == located.raw_headers[0]


def test_a_header_that_was_damaged_on_the_way_is_not_a_traceback(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    hub.faults.append(Fault(flip_at=0))
    with pytest.raises(UsageError, match="big-Q8_0"):
        open_repo(ref("Q8_0"), endpoint=endpoint, store=store)


def test_a_header_that_was_damaged_once_is_fetched_once_more(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore
) -> None:
    hub.faults.append(Fault(flip_at=0, times=1))
    located = open_repo(ref("Q8_0"), endpoint=endpoint, store=store)
    assert Q8.startswith(located.raw_headers[0])
    assert len(hub.asked("storage")) == len(hub.asked("hub", match="/resolve/")) == 2


def test_headers_of_files_in_the_cache_are_read_there(
    hub: FakeHub, commit: str, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    fetch_hub_files(open_repo(ref("Q4_K_XL"), endpoint=endpoint, store=store), endpoint=endpoint, store=store)
    hub.seen.clear()
    open_repo(ref("Q4_K_XL"), endpoint=endpoint, store=HubStore(folder=tmp_path / "other"))
    assert hub.asked("storage") + hub.asked("hub", match="/resolve/") == []
