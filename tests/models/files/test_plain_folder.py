"""Plain folders (`--dir`): whose file is replaced, and what is copied where it cannot be linked."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from launcher.errors import HashMismatch, NotFound, TryAgain, UsageError
from launcher.gguf.model import Shard
from launcher.models.files.copying import Copier, put_into_folder
from launcher.models.files.plain_folder import PlainFolder
from launcher.models.hub.download import fetch_hub_files
from launcher.models.hub.endpoint import Endpoint
from launcher.models.hub.repo import open_repo
from launcher.models.kept import folders
from launcher.models.kept.list import Stores, list_stored, pick_stored
from launcher.models.kept.remove import remove_stored
from launcher.models.kept.stored_model import StoredModel
from launcher.models.local import open_path
from launcher.models.located import Located, PullOptions, UrlFiles
from launcher.models.refs import ModelRef, RefKind
from launcher.models.store import HubStore
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.url import open_url
from launcher.models.url_download import fetch_url_files
from launcher.progress import Step, silent
from launcher.system.locks import exclusive
from tests.fakes.hub import FakeHub, Fault
from tests.pulling import QUICK, UNIT, damage
from tests.range_server import serve_ranges
from tests.tiny_gguf import tiny_gguf, tiny_split

NAME = "model-Q8_0.gguf"
ONE, TWO = tiny_gguf(seed=1, n_values=100_000), tiny_gguf(seed=2, n_values=60_000)
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=100_000)


@pytest.fixture
def options(tmp_path: Path) -> PullOptions:
    return PullOptions(tuning=QUICK, folder=tmp_path / "plain")


class Pulling:
    """Pulls of repos into the folder, as one user makes them."""

    def __init__(self, hub: FakeHub, endpoint: Endpoint, store: HubStore, options: PullOptions) -> None:
        self.hub, self.endpoint, self.store, self.options = hub, endpoint, store, options
        assert options.folder is not None
        self.folder = options.folder
        self.steps: list[Step] = []

    def locate(self, repo: str, files: dict[str, bytes]) -> Located:
        self.hub.publish(repo, files)
        ref = ModelRef(kind=RefKind.HUB, name=repo)
        found = open_repo(ref, endpoint=self.endpoint, store=self.store)
        self.hub.seen.clear()
        return found

    def into(self, folder: Path | None, located: Located) -> tuple[Path, ...]:
        options = replace(self.options, folder=folder)
        return fetch_hub_files(
            located,
            endpoint=self.endpoint,
            store=self.store,
            options=options,
            on_progress=self.steps.append,
        )

    def pull(self, repo: str, files: dict[str, bytes]) -> tuple[Path, ...]:
        return self.into(self.folder, self.locate(repo, files))

    def interrupted(self, repo: str, files: dict[str, bytes]) -> None:
        def stop(step: Step) -> None:
            if step.file and step.done > UNIT:
                raise KeyboardInterrupt

        located = self.locate(repo, files)
        self.hub.faults.append(Fault(bytes_per_s=400_000))
        with pytest.raises(KeyboardInterrupt):
            fetch_hub_files(
                located, endpoint=self.endpoint, store=self.store, options=self.options, on_progress=stop
            )
        self.hub.faults.clear()

    def listed(self) -> tuple[StoredModel, ...]:
        self.store.keep_folders([self.folder])
        nowhere = self.store.folder / "nowhere"
        return list_stored(Stores(hub_cache=nowhere, models_dir=nowhere), self.store)


@pytest.fixture
def pulling(hub: FakeHub, endpoint: Endpoint, store: HubStore, options: PullOptions) -> Pulling:
    return Pulling(hub, endpoint, store, options)


def test_the_file_of_another_repo_is_not_replaced(pulling: Pulling) -> None:
    (path,) = pulling.pull("a/m", {NAME: ONE})
    with pytest.raises(UsageError) as caught:
        pulling.pull("b/m", {NAME: TWO})
    assert f"{path} is a file of a/m" in caught.value.message
    assert f"{NAME} of b/m" in caught.value.message
    assert "--dir" in (caught.value.hint or "")
    assert (pulling.hub.asked("storage"), path.read_bytes()) == ([], ONE)


def test_a_file_of_the_users_is_not_replaced(pulling: Pulling) -> None:
    path = pulling.folder / NAME
    path.parent.mkdir()
    path.write_bytes(b"my own")
    with pytest.raises(UsageError, match="not put there by launcher"):
        pulling.pull("a/m", {NAME: ONE})
    assert path.read_bytes() == b"my own"
    path.write_bytes(ONE)  # the very file: nothing is replaced
    assert pulling.pull("a/m", {NAME: ONE}) == (path,)


def test_what_arrived_for_another_repo_is_not_dropped(pulling: Pulling) -> None:
    pulling.interrupted("a/m", {NAME: ONE})
    with pytest.raises(UsageError, match="is a file of a/m"):
        pulling.pull("b/m", {NAME: TWO})
    (part,) = pulling.listed()
    assert UNIT <= part.here_bytes < len(ONE)


def test_an_older_version_and_a_damaged_copy_are_replaced(pulling: Pulling) -> None:
    (path,) = pulling.pull("a/m", {NAME: ONE})
    assert pulling.pull("a/m", {NAME: TWO}) == (path,)
    assert path.read_bytes() == TWO
    damage(path, TWO[:-9] + bytes(9))
    pulling.options = replace(pulling.options, verify=True)
    pulling.pull("a/m", {NAME: TWO})
    assert path.read_bytes() == TWO


def test_a_name_that_became_free_may_be_taken(pulling: Pulling) -> None:
    (path,) = pulling.pull("a/m", {NAME: ONE})
    path.unlink()
    assert pulling.pull("b/m", {NAME: TWO}) == (path,)


def test_a_partial_model_is_listed_and_removed(pulling: Pulling) -> None:
    pulling.interrupted("a/m", {NAME: ONE})
    (one,) = pulling.listed()
    assert (one.name, one.store, one.is_whole) == (str(pulling.folder / NAME), "launcher", False)
    assert UNIT <= one.here_bytes < len(ONE)
    assert remove_stored(one, pulling.store) > 0
    assert (pulling.listed(), [path.name for path in pulling.folder.iterdir()]) == ((), [".locks"])
    (pulling.folder / NAME).write_bytes(b"my own")
    assert [one.store for one in pulling.listed()] == ["yours"]


def test_a_file_that_took_the_place_of_ours_is_the_users(pulling: Pulling) -> None:
    (path,) = pulling.pull("a/m", {NAME: ONE})
    (ours,) = pulling.listed()
    write(path.with_name("mine"), b"my own").replace(path)
    with pytest.raises(UsageError, match="exchanged since launcher put one there"):
        pulling.pull("a/m", {NAME: TWO})
    assert [one.store for one in pulling.listed()] == ["yours"]
    with pytest.raises(UsageError, match="not what launcher put there any more"):
        remove_stored(ours, pulling.store)
    assert path.read_bytes() == b"my own"


def test_a_pull_that_brought_nothing_owns_nothing(pulling: Pulling) -> None:
    located = pulling.locate("a/m", {NAME: ONE})
    pulling.endpoint = replace(pulling.endpoint, offline=True)
    with pytest.raises(NotFound):
        pulling.into(pulling.folder, located)
    pulling.folder.mkdir(exist_ok=True)
    path = write(pulling.folder / NAME, b"my own")
    pulling.endpoint = replace(pulling.endpoint, offline=False)
    with pytest.raises(UsageError, match="not put there by launcher"):
        pulling.into(pulling.folder, located)
    assert ([one.store for one in pulling.listed()], path.read_bytes()) == (["yours"], b"my own")


def test_the_partial_file_of_another_program_is_not_written_to(pulling: Pulling) -> None:
    """Firefox calls it so."""
    pulling.folder.mkdir()
    part = write(pulling.folder / f"{NAME}.part", b"half")
    with pytest.raises(UsageError, match=r"gguf\.part is a file that was not put there by launcher"):
        pulling.pull("a/m", {NAME: ONE})
    assert ([one.store for one in pulling.listed()], part.read_bytes()) == (["yours"], b"half")


def test_neither_a_link_into_nothing_nor_a_folder_is_replaced(pulling: Pulling) -> None:
    pulling.folder.mkdir()
    path = pulling.folder / NAME
    path.symlink_to("/not/mounted")
    with pytest.raises(UsageError, match="not put there by launcher"):
        pulling.pull("a/m", {NAME: ONE})
    assert path.readlink() == Path("/not/mounted")
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="is a folder that was not put there"):
        pulling.pull("a/m", {NAME: ONE})
    assert pulling.hub.asked("storage") == []


def test_of_two_pulls_of_one_name_the_second_is_refused(pulling: Pulling) -> None:
    """Both were begun while there was no such file."""
    first = pulling.locate("a/m", {NAME: ONE})
    place = PlainFolder(pulling.folder, "b/m", pulling.store)
    (shard,) = first.model.shards
    with ThreadPoolExecutor(1) as pool, exclusive(place.lock_path(shard)) as held:
        paths = pool.submit(pulling.into, pulling.folder, first)
        while not any("another download" in step.text for step in pulling.steps):
            wait([paths], timeout=0.01)
        assert place.link(shard, write(pulling.folder / "two", TWO))
        fcntl.flock(held, fcntl.LOCK_UN)
        with pytest.raises(UsageError, match="is a file of b/m"):
            paths.result(60)
    assert (place.path(shard).read_bytes(), pulling.hub.asked("storage")) == (TWO, [])


def test_what_appears_during_a_download_is_not_replaced(pulling: Pulling) -> None:
    located, path = pulling.locate("a/m", {NAME: ONE}), pulling.folder / NAME

    def save(step: Step) -> None:
        if step.file and not path.exists():
            path.write_bytes(b"my own")

    with pytest.raises(UsageError, match="not put there by launcher"):
        fetch_hub_files(
            located, endpoint=pulling.endpoint, store=pulling.store, options=pulling.options, on_progress=save
        )
    assert path.read_bytes() == b"my own"
    path.unlink()
    asked = len(pulling.hub.asked("storage"))
    assert pulling.into(pulling.folder, located) == (path,)
    assert (path.read_bytes(), len(pulling.hub.asked("storage"))) == (ONE, asked)


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


def test_what_was_put_into_lm_studios_folder_is_ours(pulling: Pulling, tmp_path: Path) -> None:
    studio = tmp_path / "lm"
    pulling.folder = studio / "pub" / "model"
    pulling.pull("a/m", {NAME: ONE})
    write(pulling.folder / "other-Q8_0.gguf", TWO)
    pulling.store.keep_folders([pulling.folder])
    kept = list_stored(
        Stores(hub_cache=tmp_path, models_dir=tmp_path / "no", lm_studio=(studio,)), pulling.store
    )
    assert sorted((one.name, one.store) for one in kept) == [
        (str(pulling.folder / NAME), "launcher"),
        ("pub/model:Q8_0", "lm studio"),
    ]
    (pulling.folder / "other-Q8_0.gguf").unlink()
    (ours,) = pick_stored(kept, [str(pulling.folder / NAME)])
    shutil.rmtree(pulling.folder / ".locks")
    remove_stored(ours, pulling.store)
    assert [path.name for path in pulling.folder.iterdir()] == [".locks"]


def test_a_named_folder_is_looked_through_as_far_as_is_quick(
    pulling: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put there is listed however deep it is; a folder that is gone is forgotten."""
    deep = "/".join("abcdef")
    pulling.pull("a/m", {f"{deep}/{NAME}": ONE})
    for place in (pulling.folder, pulling.folder / "a", pulling.folder / deep):
        write(place / "mine-Q4_0.gguf", TWO)
    ours, mine = str(pulling.folder / deep / NAME), "mine-Q4_0.gguf"
    near = [str(pulling.folder / mine), str(pulling.folder / "a" / mine)]
    assert sorted(one.name for one in pulling.listed()) == sorted([ours, *near])
    monkeypatch.setattr(folders, "_MOST_SEEN", 3)
    assert sorted(one.name for one in pulling.listed()) == sorted([ours, near[0]])
    gone = pulling.folder / "gone"
    pulling.store.keep_folders([gone])
    pulling.listed()
    assert pulling.store.folders() == (pulling.folder,)


@pytest.fixture
def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("other_disk")
def test_a_folder_on_another_disk_gets_copies(pulling: Pulling) -> None:
    located = pulling.locate("user/repo", SHARDS)
    cached = pulling.into(None, located)
    pulling.hub.seen.clear()
    pulling.steps.clear()
    paths = pulling.into(pulling.folder, located)
    for path in cached:
        path.resolve().unlink()
    assert [path.is_symlink() for path in paths] == [False, False]
    assert ([path.read_bytes() for path in paths], pulling.hub.seen) == (list(SHARDS.values()), [])
    size = sum(map(len, SHARDS.values()))
    copied = [(step.done, step.total) for step in pulling.steps if step.phase == "copy"]
    assert copied == [(len(next(iter(SHARDS.values()))), size), (size, size)]
    assert not list(pulling.folder.glob("*.part*"))


@pytest.mark.usefixtures("other_disk")
def test_a_copy_waits_for_whoever_fills_the_file(pulling: Pulling) -> None:
    located = pulling.locate("user/repo", SHARDS)
    pulling.into(None, located)
    pulling.hub.seen.clear()
    place = PlainFolder(pulling.folder, "user/repo", pulling.store)
    with ThreadPoolExecutor(1) as pool, exclusive(place.lock_path(located.model.shards[0])) as held:
        second = place.path(located.model.shards[1])
        paths = pool.submit(pulling.into, pulling.folder, located)
        while not second.exists():
            wait([paths], timeout=0.01)
        assert not paths.done()
        fcntl.flock(held, fcntl.LOCK_UN)
        found = paths.result(60)
    assert ([path.read_bytes() for path in found], pulling.hub.seen) == (list(SHARDS.values()), [])


@pytest.mark.usefixtures("other_disk")
def test_copies_need_room_too(pulling: Pulling, monkeypatch: pytest.MonkeyPatch) -> None:
    located = pulling.locate("user/repo", SHARDS)
    pulling.into(None, located)
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 (as shutil's)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 10))
    with pytest.raises(TryAgain, match="user/repo needs"):
        pulling.into(pulling.folder, located)
    assert not list(pulling.folder.glob("*.gguf*"))


def begun(store: HubStore, tmp_path: Path, first: bytes) -> tuple[PlainFolder, Shard, Path]:
    """A copy of two units of which the first is there, as `first`; the source has another one by now."""
    unit, second = 8 << 20, b"second"
    shard = Shard(name=NAME, size_bytes=unit + 6, sha256=hashlib.sha256(bytes(unit) + second).hexdigest())
    place = PlainFolder(tmp_path / "plain", "a/m", store)
    identity = place.identity(shard.sha256 or "")
    part = PartialFile(
        place.partial_path(shard), size_bytes=shard.size_bytes, unit_bytes=unit, identity=identity
    )
    part.write(memoryview(first), 0)
    part.mark([0])
    part.sync()
    part.close()
    return place, shard, write(tmp_path / "source", b"x" * unit + second)


def test_a_copy_goes_on_where_it_was_broken_off(store: HubStore, tmp_path: Path) -> None:
    place, shard, source = begun(store, tmp_path, bytes(8 << 20))
    Copier(place=place, retry="launcher pull m", on_progress=silent).copy(shard, source)
    assert place.path(shard).read_bytes() == bytes(8 << 20) + b"second"
    assert [path.name for path in place.root.iterdir()] == [NAME]


def test_a_copy_that_is_not_right_is_removed(store: HubStore, tmp_path: Path) -> None:
    place, shard, source = begun(store, tmp_path, b"damage" + bytes((8 << 20) - 6))
    with pytest.raises(HashMismatch, match="the copy of"):
        Copier(place=place, retry="launcher pull m", on_progress=silent).copy(shard, source)
    assert list(place.root.iterdir()) == []


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("other_disk")
def test_a_local_model_is_copied_once_and_again_when_it_changed(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    located, steps = open_path(source), list[Step]()
    options = PullOptions(folder=tmp_path / "plain")
    for _ in range(2):
        (path,) = put_into_folder(located, store=store, options=options, on_progress=steps.append)
        assert (path.read_bytes(), path.is_symlink(), len(steps)) == (ONE, False, 1)
    changed = ONE[:-1] + b"x"
    write(source, changed)
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(source, ns=(later, later))
    put_into_folder(open_path(source), store=store, options=options, on_progress=steps.append)
    assert (path.read_bytes(), len(steps)) == (changed, 2)


def test_a_local_model_replaces_no_file_of_the_users(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    (tmp_path / "plain").mkdir()
    path = write(tmp_path / "plain" / NAME, TWO)
    with pytest.raises(UsageError, match="not put there by launcher"):
        put_into_folder(open_path(source), store=store, options=PullOptions(folder=path.parent))
    assert path.read_bytes() == TWO


def test_a_local_model_of_the_folder_itself_stays_the_users(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    assert put_into_folder(open_path(source), store=store, options=PullOptions(folder=tmp_path)) == (source,)
    assert store.owners().folders() == frozenset()


def test_a_local_model_is_not_linked_over_what_another_pull_writes(store: HubStore, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    located = open_path(source)
    model = located.model
    place = PlainFolder(tmp_path / "plain", "a/m", store)
    with (
        exclusive(place.lock_path(model.shards[0])),
        pytest.raises(TryAgain, match="written by another program"),
    ):
        put_into_folder(located, store=store, options=PullOptions(folder=place.root))
    assert not place.path(model.shards[0]).exists()


def test_a_file_of_the_users_that_took_the_place_of_a_local_models_stays(
    store: HubStore, tmp_path: Path
) -> None:
    source = write(tmp_path / NAME, ONE)
    (path,) = put_into_folder(open_path(source), store=store, options=PullOptions(folder=tmp_path / "plain"))
    path.unlink()
    write(path, TWO)
    with pytest.raises(UsageError, match="exchanged since launcher put one there"):
        put_into_folder(open_path(source), store=store, options=PullOptions(folder=path.parent))
    assert path.read_bytes() == TWO


def test_a_file_with_a_urls_size_and_header_stays_the_users(store: HubStore, tmp_path: Path) -> None:
    """Nothing vouches for the rest of it."""
    path = write(tmp_path / NAME, ONE)
    with serve_ranges() as server:
        server.files[NAME] = ONE
        located = open_url(f"{server.url}/{NAME}")
        assert isinstance(located.files, UrlFiles)
        place = PlainFolder(tmp_path, located.model.source, store)
        assert fetch_url_files(
            located, located.files, tmp_path, silent, PullOptions(tuning=QUICK), place
        ) == (path,)
        assert store.owners().of(path) is None
        path.unlink()
        fetch_url_files(located, located.files, tmp_path, silent, PullOptions(tuning=QUICK), place)
    assert store.owners().of(path) == located.model.source


def test_a_url_replaces_no_file_of_the_users(store: HubStore, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    path = write(folder / NAME, TWO)
    with serve_ranges() as server:
        server.files[NAME] = ONE
        located = open_url(f"{server.url}/{NAME}")
        assert isinstance(located.files, UrlFiles)
        place = PlainFolder(folder, located.model.source, store)
        with pytest.raises(UsageError, match="not put there by launcher"):
            fetch_url_files(located, located.files, folder, silent, PullOptions(tuning=QUICK), place)
        assert path.read_bytes() == TWO
        path.unlink()
        assert fetch_url_files(located, located.files, folder, silent, PullOptions(tuning=QUICK), place) == (
            path,
        )
    assert path.read_bytes() == ONE
