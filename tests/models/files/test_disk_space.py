"""Disks without room: what is said, and what is let alone."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import resource
import shutil
import tempfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import TryAgain, UsageError
from launcher.gguf.model import Shard
from launcher.models.files.copying import put_into_folder
from launcher.models.files.disk_space import Destination, disk_error
from launcher.models.files.plain_folder import PlainFolder
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.local import open_path
from launcher.models.located import Located, PullOptions, UrlFiles
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.models.transfer import partial_file
from launcher.models.transfer.journal import arrived_bytes
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.url import open_url
from launcher.models.url_download import fetch_url_files
from launcher.progress import silent
from launcher.system.locks import exclusive
from tests.fakes.hub import FakeHub
from tests.pulling import QUICK, UNIT
from tests.range_server import serve_ranges
from tests.tiny_gguf import tiny_gguf, tiny_split

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
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    (endpoint.cache_dir / "mine").hardlink_to(paths[0].resolve())
    for path in paths:
        damage(path)
    set_free(10)
    with pytest.raises(TryAgain, match=r"needs .* has 10 B free"):
        fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert all(b"damage" in path.read_bytes() for path in paths)
    set_free(TOTAL * 51 // 50 - paths[1].stat().st_blocks * 512)
    again = fetch_hub_files(located, endpoint=endpoint, store=store, options=OPTIONS)
    assert [path.read_bytes() for path in again] == list(SHARDS.values())


def test_what_is_too_little_is_said_where_the_figures_look_the_same(
    *, hub: FakeHub, located: Located, endpoint: Endpoint, store: HubStore, set_free: SetFree
) -> None:
    set_free(TOTAL * 51 // 50 - 100)
    with pytest.raises(TryAgain, match=r"needs 797.* has 797.* free: 100 B too little") as caught:
        fetch_hub_files(
            located, endpoint=endpoint, store=store, options=replace(OPTIONS, again="launcher pull big")
        )
    ways = "free 100 B there (launcher ls, then launcher rm MODEL), or set HF_HUB_CACHE to another folder"
    assert caught.value.hint == f"{ways}, then: launcher pull big"
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
        full.setattr(partial_file, "_preallocate", os.ftruncate)
        with pytest.raises(TryAgain) as caught:
            fetch_hub_files(
                located, endpoint=endpoint, store=store, options=replace(ONE_LINE, again="launcher pull big")
            )
    message, hint = caught.value.message, caught.value.hint or ""
    needed = r"3\d\d\.. KiB"  # of 797
    expected = f"{what} of {endpoint.cache_dir} ran full; what has arrived is kept: {needed} more are needed,"
    assert re.fullmatch(f"{expected} and 0 B are free", message)
    ways = r"\(launcher ls, then launcher rm MODEL\), or set HF_HUB_CACHE to another folder"
    assert re.fullmatch(f"free {needed} there {ways}; it goes on where it stopped: launcher pull big", hint)
    kept = sum(map(arrived_bytes, endpoint.cache_dir.glob("models--*/blobs/*.part")))
    whole = sum(path.stat().st_size for path in endpoint.cache_dir.glob("models--*/snapshots/*/*"))
    assert kept + whole > most - 2 * UNIT
    hub.seen.clear()
    set_free(TOTAL)
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=ONE_LINE)
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
        fetch_hub_files(located, endpoint=endpoint, store=store, options=ONE_LINE)
    assert (caught.value.hint or "").startswith("free space there (launcher ls")


DRAFT = tiny_gguf(seed=5, n_values=100_000)
NEEDED = TOTAL * 51 // 50


@pytest.fixture
def beside(tmp_path: Path) -> PullOptions:
    """What comes after the model: a draft model into the Hub's cache."""
    draft = Shard(name="draft-Q8_0.gguf", size_bytes=len(DRAFT), sha256=hashlib.sha256(DRAFT).hexdigest())
    return replace(OPTIONS, later=((draft, tmp_path / "hf" / "draft.part"),))


def test_what_is_loaded_beside_the_model_is_named_where_both_have_no_room(
    *, located: Located, endpoint: Endpoint, store: HubStore, beside: PullOptions, set_free: SetFree
) -> None:
    set_free(NEEDED)
    with pytest.raises(TryAgain, match=f"^{REPO} and, beside it, draft-Q8_0.gguf need "):
        fetch_hub_files(located, endpoint=endpoint, store=store, options=beside)


def test_what_will_be_linked_afterwards_needs_no_room(
    *,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    beside: PullOptions,
    tmp_path: Path,
    set_free: SetFree,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "any.gguf").write_bytes(DRAFT)
    set_free(NEEDED)
    options = replace(beside, look_in=(tmp_path / "mine",))
    paths = fetch_hub_files(located, endpoint=endpoint, store=store, options=options)
    assert [path.read_bytes() for path in paths] == list(SHARDS.values())


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if Path(folder).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm and the folder of the tests are one file system")
        yield Path(folder)


def test_a_copy_that_has_to_wait_for_another_pull_needs_its_room(
    *,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    tmp_path: Path,
    other_disk: Path,
    set_free: SetFree,
) -> None:
    """Nobody has begun it: whoever holds its lock may end without it."""
    for name, content in SHARDS.items():
        (other_disk / name).write_bytes(content)
    options = replace(OPTIONS, look_in=(other_disk,), folder=tmp_path / "plain")
    lock = PlainFolder(tmp_path / "plain", REPO, store).lock_path(located.model.shards[0])
    set_free(NEEDED // 2 + UNIT)
    with exclusive(lock), pytest.raises(TryAgain, match=f"{REPO} needs 797"):
        fetch_hub_files(located, endpoint=endpoint, store=store, options=options)


def test_a_url_into_a_folder_is_told_of_another_folder(
    store: HubStore, tmp_path: Path, set_free: SetFree
) -> None:
    with serve_ranges() as server:
        server.files["m-Q8_0.gguf"] = DRAFT
        located = open_url(f"{server.url}/m-Q8_0.gguf")
        assert isinstance(located.files, UrlFiles)
        place = PlainFolder(tmp_path / "plain", located.model.source, store)
        set_free(10)
        with pytest.raises(TryAgain) as caught:
            fetch_url_files(
                located,
                located.files,
                place.root,
                silent,
                PullOptions(tuning=QUICK, again="launcher pull URL"),
                place,
            )
    hint = caught.value.hint or ""
    assert hint.endswith("or name another folder with --dir, then: launcher pull URL")
    assert "LAUNCHER_HOME" not in hint


def test_a_copy_that_finds_the_disk_full_says_how_much_is_missing(
    *, store: HubStore, tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch, set_free: SetFree
) -> None:
    source = other_disk / "m-Q8_0.gguf"
    source.write_bytes(DRAFT)

    def refuse(*_: object) -> int:
        set_free(0)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(partial_file, "_preallocate", refuse)
    options = PullOptions(folder=tmp_path / "plain", again="launcher pull ./m --dir d")
    with pytest.raises(TryAgain, match=r"kept: \d+.* KiB more are needed, and 0 B are free") as caught:
        put_into_folder(open_path(source), store=store, options=options)
    assert (caught.value.hint or "").endswith("it goes on where it stopped: launcher pull ./m --dir d")


def test_what_comes_after_a_file_of_this_machine_needs_room_too(
    *, store: HubStore, tmp_path: Path, beside: PullOptions, set_free: SetFree
) -> None:
    source = tmp_path / "m-Q8_0.gguf"
    source.write_bytes(DRAFT)
    set_free(10)
    with pytest.raises(TryAgain, match=r"draft-Q8_0\.gguf need"):
        put_into_folder(open_path(source), store=store, options=replace(beside, folder=tmp_path / "plain"))


def test_a_file_that_the_file_system_has_no_size_for_is_named_with_its_size(
    *,
    located: Located,
    endpoint: Endpoint,
    store: HubStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As FAT says when a file is preallocated."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(partial_file, "_preallocate", refuse)
    largest = max(located.model.shards, key=lambda shard: shard.size_bytes)
    too_large = rf"^{largest.name}, 39\d.* KiB, is above the limit that the file system"
    expected = f"{too_large} of {tmp_path}/usb has for one file"
    with pytest.raises(UsageError, match=expected) as caught:
        fetch_hub_files(
            located, endpoint=endpoint, store=store, options=replace(OPTIONS, folder=tmp_path / "usb")
        )
    assert caught.value.hint == "name another folder with --dir, on another file system"


def test_a_limit_of_the_process_for_one_file_is_not_blamed_on_the_disk(
    *, located: Located, endpoint: Endpoint, store: HubStore
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, before[1]))
    try:
        with pytest.raises(UsageError, match=r"limit of this process for one file, 256.0 KiB") as caught:
            fetch_hub_files(
                located, endpoint=endpoint, store=store, options=replace(OPTIONS, again="launcher pull big")
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.hint == "ulimit -f unlimited, then: launcher pull big"


def test_a_folder_where_a_file_should_be_is_named(tmp_path: Path) -> None:
    begun = PartialFile(tmp_path / "m.gguf.part", size_bytes=1, unit_bytes=1, identity="")
    begun.close()
    (tmp_path / "m.gguf").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        begun.become(tmp_path / "m.gguf")
    error = disk_error(
        caught.value, Destination(folder=tmp_path, alternative="name another folder with --dir")
    )
    assert error.message == f"{tmp_path}/m.gguf is a folder, and a file is needed"
