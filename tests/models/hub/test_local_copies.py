"""Files that are linked instead of fetched: damaged ones, and other pulls of the same file meanwhile."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import HashMismatch, TryAgain
from launcher.models.hub.cache import HubCache
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.located import HubFiles, Located, PullOptions
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.progress import Step
from launcher.system.locks import exclusive
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK, start_pull
from tests.tiny_gguf import tiny_split

REPO = "user/repo"
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=100_000)
OPTIONS = PullOptions(tuning=QUICK)
VERIFY = replace(OPTIONS, verify=True)


def locate(hub: FakeHub, endpoint: Endpoint, store: HubStore, repo: str = REPO) -> Located:
    hub.publish(repo, SHARDS)
    found = open_repo(ModelRef(kind=RefKind.HUB, name=repo), endpoint=endpoint, store=store)
    hub.seen.clear()
    return found


@pytest.fixture
def located(hub: FakeHub, endpoint: Endpoint, store: HubStore) -> Located:
    return locate(hub, endpoint, store)


@pytest.fixture
def lm_studio(clean_environment: Path) -> Path:
    """Another program's folder, with the same files."""
    return copies(clean_environment / ".lmstudio/models/u/r")


def copies(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in SHARDS.items():
        (folder / name).write_bytes(content)
    return folder


def place_of(located: Located, endpoint: Endpoint) -> HubCache:
    assert isinstance(located.files, HubFiles)
    return HubCache(endpoint, located.files)


def rot(path: Path) -> None:
    """Other bytes; size and times as they were."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_damaged_file_is_not_linked_again_by_its_other_name(
    *, located: Located, endpoint: Endpoint, store: HubStore, lm_studio: Path
) -> None:
    """The cache has a hard link of another program's file, remembered as right by that name too."""
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert paths[0].samefile(lm_studio / paths[0].name)
    rot(paths[0])
    again = fetch_hub_files(located, endpoint=endpoint, store=store, options=VERIFY)
    assert [path.read_bytes() for path in again] == list(SHARDS.values())
    assert b"damage" in (lm_studio / paths[0].name).read_bytes()


def test_a_damage_that_could_not_be_mended_is_not_accepted_by_the_next_pull(
    *, located: Located, endpoint: Endpoint, store: HubStore, lm_studio: Path
) -> None:
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    rot(paths[0])
    offline = replace(endpoint, offline=True)
    for options in (VERIFY, OPTIONS):
        with pytest.raises(HashMismatch, match="is damaged"):
            fetch_hub_files(located, endpoint=offline, store=store, options=options)


def test_a_damaged_file_is_forgotten_under_all_its_names(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    """Two repos have one file; found in the pull of one, mended in that of the other too."""
    other = locate(hub, endpoint, store, "other/copy")
    for each in (located, other):
        paths = fetch_hub_files(each, endpoint=endpoint, store=store, options=OPTIONS)
    rot(paths[0])
    for each, options in ((located, VERIFY), (other, OPTIONS)):
        mended = fetch_hub_files(each, endpoint=endpoint, store=store, options=options)
        assert [path.read_bytes() for path in mended] == list(SHARDS.values())


def test_verify_hashes_anew_what_it_links(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, lm_studio: Path
) -> None:
    """Another program's file was found right once, and is not what the cache's damaged one is."""
    plain = replace(OPTIONS, folder=lm_studio.parent / "plain")
    fetch_hub_files(
        located, endpoint=endpoint, store=store, options=plain
    )  # remembers that those of LM Studio are right
    shutil.rmtree(lm_studio.parent / "plain")
    rot(lm_studio / next(iter(SHARDS)))
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=VERIFY)
    assert [path.read_bytes() for path in paths] == list(SHARDS.values())
    assert hub.asked("storage", match="00001-of")
    assert not hub.asked("storage", match="00002-of")


@pytest.mark.parametrize("ends", ["done", "killed"])
def test_a_file_that_another_pull_is_fetching_is_linked_only_when_that_one_is_over(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path, ends: str
) -> None:
    """Its partial file is left alone. When it dies, what is here is linked and nothing is fetched."""
    usb = copies(tmp_path / "usb")
    hub.faults.append(Fault(bytes_per_s=400_000))
    other = start_pull(endpoint, store, f"{REPO}:Q4_K_M")
    parts = [place_of(located, endpoint).partial_path(shard) for shard in located.model.shards]
    while not all(part.exists() for part in parts):
        assert other.poll() is None, other.communicate()

    def on_progress(step: Step) -> None:
        if "another download" in step.text and ends == "killed":
            other.kill()
            other.wait()

    options = replace(OPTIONS, look_in=(usb,))
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=options, on_progress=on_progress)
    _, said = other.communicate(timeout=30)
    assert [path.read_bytes() for path in paths] == list(SHARDS.values())
    assert not any(part.exists() for part in parts)
    if ends == "done":
        assert other.returncode == 0, said
    else:
        assert all(path.samefile(usb / path.name) for path in paths)


def test_offline_a_file_that_another_pull_is_fetching_is_named(
    *, located: Located, endpoint: Endpoint, store: HubStore, tmp_path: Path
) -> None:
    options = replace(OPTIONS, look_in=(copies(tmp_path / "usb"),))
    offline = replace(endpoint, offline=True)
    lock = place_of(located, endpoint).lock_path(located.model.shards[1])
    with exclusive(lock), pytest.raises(TryAgain, match=r"00002-of-00002\.gguf of user/repo is being"):
        fetch_hub_files(located, endpoint=offline, store=store, options=options)
    paths = fetch_hub_files(located, endpoint=offline, store=store, options=options)
    assert [path.read_bytes() for path in paths] == list(SHARDS.values())


def test_a_partial_file_that_vanishes_is_fetched_again(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    first = located.model.shards[0]
    part = place_of(located, endpoint).partial_path(first)
    said: list[str] = []

    def remove(step: Step) -> None:
        if step.file and step.done and not said:
            part.unlink(missing_ok=True)
        if step.is_remark:
            said.append(step.text)

    hub.faults.append(Fault(bytes_per_s=400_000))
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS, on_progress=remove)
    assert said == [f"the partial file of {first.name} was removed while it was fetched"]
    assert [path.read_bytes() for path in paths] == list(SHARDS.values())
