"""A `--dir` that others can write to: nothing of theirs is continued, followed or relied on."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.here import here_with
from launcher.commands.pull import fetch_each
from launcher.errors import UsageError
from launcher.models.files.copying import put_into_folder
from launcher.models.files.place import partial_path_of
from launcher.models.files.plain_folder import lock_path_of
from launcher.models.kept.remove import remove_stored
from launcher.models.local import open_path
from launcher.models.located import PullOptions
from launcher.models.transfer.journal import journal_path
from launcher.models.transfer.partial_file import PartialFile
from launcher.progress import Step
from launcher.system.locks import exclusive_if_free
from launcher.system.owned_files import NotOurs
from tests.make_gguf import make_gguf
from tests.pulling import UNIT
from tests.pulling_into_folder import NAME, ONE, TWO, Pulling, write
from tests.strangers import give, needs_root

DEEP = f"sub/{NAME}"


@pytest.fixture
def shared(pulling: Pulling) -> Path:
    """The folder, open to all users."""
    pulling.folder.mkdir()
    pulling.folder.chmod(0o777)
    return pulling.folder


def begun(pulling: Pulling) -> tuple[Path, ...]:
    """A partial file that a pull would go on with."""
    pulling.interrupted("a/m", {NAME: ONE})
    part = partial_path_of(pulling.folder / NAME)
    return part, journal_path(part), lock_path_of(pulling.folder / NAME)


@pytest.mark.parametrize(("mode", "said"), [(0o777, True), (0o1777, False), (0o775, False), (0o755, False)])
def test_a_folder_where_all_can_exchange_files_is_said(tmp_path: Path, mode: int, said: bool) -> None:
    here = here_with(on_progress=(steps := list[Step]()).append)
    make_gguf(tmp_path / "m.gguf", "llama")
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    fetch_each(here, [open_path(tmp_path / "m.gguf")], PullOptions(folder=folder))
    words = f"every user can exchange files in {folder}"
    assert any(words in (step.text or "") for step in steps) is said


@needs_root
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_another_user_began_is_not_continued(pulling: Pulling, shared: Path, which: int) -> None:
    planted = begun(pulling)[which]
    give(planted)
    pulling.hub.seen.clear()
    with pytest.raises(UsageError, match="it belongs to nobody") as caught:
        pulling.pull("a/m", {NAME: ONE})
    assert str(planted) in caught.value.message
    assert (pulling.hub.asked("storage"), (shared / NAME).exists()) == ([], False)
    assert planted.stat().st_uid != os.geteuid()


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("kind", ["link", "hard", "pipe"])
def test_what_is_planted_in_place_of_a_file_is_not_written_to(
    *, pulling: Pulling, shared: Path, tmp_path: Path, which: int, kind: str
) -> None:
    planted = begun(pulling)[which]
    victims = write(tmp_path / "victim", planted.read_bytes())
    before = victims.read_bytes()
    planted.unlink()
    {"link": planted.symlink_to, "hard": planted.hardlink_to, "pipe": lambda _: os.mkfifo(planted)}[kind](
        victims
    )
    with pytest.raises(UsageError, match="cannot be used"):
        pulling.pull("a/m", {NAME: ONE})
    assert victims.read_bytes() == before


@pytest.mark.parametrize("which", ["sub", ".locks"])
def test_a_folder_that_is_a_link_is_not_entered(
    pulling: Pulling, shared: Path, tmp_path: Path, which: str
) -> None:
    (tmp_path / "victim").mkdir()
    (shared / which).symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match="a folder is needed"):
        pulling.pull("a/m", {DEEP if which == "sub" else NAME: ONE})
    assert list((tmp_path / "victim").iterdir()) == []


@needs_root
def test_a_folder_of_another_user_is_not_entered(pulling: Pulling, shared: Path) -> None:
    (shared / "sub").mkdir()
    give(shared / "sub")
    with pytest.raises(UsageError, match="sub cannot be used: it belongs to nobody"):
        pulling.pull("a/m", {DEEP: ONE})


@needs_root
@pytest.mark.parametrize("owner", ["theirs", "linked", "open"])
def test_the_right_file_that_others_can_change_is_not_relied_on(
    pulling: Pulling, shared: Path, owner: str
) -> None:
    path = write(shared / ("real" if owner == "linked" else NAME), ONE)
    if owner == "linked":
        (shared / NAME).symlink_to("real")
        give(shared / NAME)
    elif owner == "theirs":
        give(path)
    else:
        path.chmod(0o666)
    with pytest.raises(UsageError, match="cannot be relied on"):
        pulling.pull("a/m", {NAME: ONE})
    elsewhere = shared.parent / "elsewhere"
    pulling.options = replace(pulling.options, look_in=(shared,))
    (copied,) = pulling.into(elsewhere, pulling.locate("a/m", {NAME: ONE}))
    assert (copied.stat().st_uid, copied.read_bytes()) == (os.geteuid(), ONE)
    assert copied.samefile(path) == (owner == "linked")  # what the link names is ours
    assert not copied.stat().st_mode & 0o022


@needs_root
def test_a_local_file_of_another_user_is_copied_not_linked(pulling: Pulling, tmp_path: Path) -> None:
    source = write(tmp_path / NAME, ONE)
    give(source)
    (path,) = put_into_folder(
        open_path(source), store=pulling.store, options=PullOptions(folder=pulling.folder)
    )
    assert (path.stat().st_uid, path.samefile(source)) == (os.geteuid(), False)


def test_what_arrives_has_our_mode_whatever_the_umask(pulling: Pulling, shared: Path) -> None:
    before = os.umask(0)
    try:
        begun(pulling)
        partial_path_of(shared / NAME).chmod(0o666)
        (path,) = pulling.pull("a/m", {NAME: ONE})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(lock_path_of(path).stat().st_mode) == 0o600


def test_a_file_that_was_exchanged_while_it_was_filled_does_not_count(tmp_path: Path) -> None:
    part = PartialFile(tmp_path / "x.part", size_bytes=9, unit_bytes=9, identity="x")
    part.close()
    write(tmp_path / "other", TWO).replace(part.path)
    with pytest.raises(NotOurs, match="exchanged"):
        part.become(tmp_path / "x")
    assert not (tmp_path / "x").exists()


@needs_root
def test_rm_takes_a_strangers_partial_file_for_what_it_is(pulling: Pulling, shared: Path) -> None:
    part, *_ = begun(pulling)
    (ours,) = pulling.listed()
    give(part)
    assert [model.store for model in pulling.listed()] == ["yours"]
    with pytest.raises(UsageError, match="not what launcher put there any more"):
        remove_stored(ours, pulling.store)
    assert part.stat().st_size >= UNIT


def test_rm_makes_no_lock_behind_a_link(pulling: Pulling, shared: Path, tmp_path: Path) -> None:
    pulling.pull("a/m", {NAME: ONE})
    (ours,) = pulling.listed()
    (shared / ".locks").rename(tmp_path / "locks")
    (tmp_path / "victim").mkdir()
    (shared / ".locks").symlink_to(tmp_path / "victim")
    with pytest.raises(NotOurs):
        remove_stored(ours, pulling.store)
    assert list((tmp_path / "victim").iterdir()) == []


@needs_root
def test_a_lock_is_ours_or_the_folders_owners(tmp_path: Path) -> None:
    (lock := tmp_path / "x.lock").touch()
    give(lock)
    with pytest.raises(NotOurs), exclusive_if_free(lock):
        pass
    give(tmp_path)  # whoever owns the folder can do anything to it
    with exclusive_if_free(lock) as free:
        assert free
