"""Plain folders (`--dir`): whose files are replaced and whose are not."""

from __future__ import annotations

import fcntl
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import NotFound, UsageError
from launcher.models.files.plain_folder import PlainFolder
from launcher.models.hub.download import fetch_hub_files
from launcher.models.kept.remove import remove_stored
from launcher.models.located import PullOptions, UrlFiles
from launcher.models.store import HubStore
from launcher.models.url import open_url
from launcher.models.url_download import fetch_url_files
from launcher.progress import Step, silent
from launcher.system.locks import exclusive
from tests.pulling import QUICK, UNIT, damage
from tests.pulling_into_folder import NAME, ONE, TWO, Pulling, write
from tests.range_server import serve_ranges


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
