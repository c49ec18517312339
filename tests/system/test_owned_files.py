"""Opening what others may have planted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.system.owned_files import (
    NotOurs,
    Owner,
    check_begun,
    check_folders,
    check_unchangeable,
    open_file,
    opened_folder,
    read_file,
    user_name,
    write_file,
)
from tests.strangers import STRANGER, give, needs_root


def test_a_file_of_ours_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_file(path, 5)[0] == b"12345"
    with pytest.raises(NotOurs, match="larger than 4 bytes"):
        read_file(path, 4)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "y", 5)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_links_pipes_and_folders_are_refused_without_a_wait(tmp_path: Path, flags: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "hard").hardlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "nowhere", "hard", "pipe"):
        with pytest.raises(NotOurs):
            open_file(tmp_path / name, flags, owner=Owner.ANYONES)
    assert not (tmp_path / "none").exists()
    with pytest.raises(OSError, match=r"folder|directory|regular"):
        open_file(tmp_path, flags)


def test_a_file_is_made_with_its_mode_and_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        os.close(open_file(tmp_path / "x", os.O_RDWR | os.O_CREAT, mode=0o600))
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_a_file_in_an_open_folder_is_replaced_or_unchanged(tmp_path: Path) -> None:
    with opened_folder(tmp_path / "a" / "b", create=True) as folder:
        write_file(folder, "x", b"1", mode=0o644)
        write_file(folder, "x", b"2", mode=0o644)
        (tmp_path / "a" / "b" / "y").mkdir()
        with pytest.raises(IsADirectoryError):
            write_file(folder, "y", b"1", mode=0o644)
        assert read_file("x", 9, owner=Owner.ANYONES, folder=folder)[0] == b"2"
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["x", "y"]


@needs_root
def test_whose_files_are_used(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    give(path)
    for owner in (Owner.OURS, Owner.FOLDERS):
        with pytest.raises(NotOurs, match=f"it belongs to {user_name(STRANGER)}"):
            open_file(path, owner=owner)
    os.close(open_file(path, owner=Owner.ANYONES))
    with pytest.raises(NotOurs):
        check_begun(path)
    with pytest.raises(NotOurs, match="who can change it"):
        check_unchangeable(path)
    give(tmp_path)
    os.close(open_file(path, owner=Owner.FOLDERS))


@needs_root
def test_whose_folders_are_entered(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    give(folder)
    with pytest.raises(NotOurs, match="it belongs to"), opened_folder(folder):
        pass
    with pytest.raises(NotOurs, match="it belongs to"):
        check_folders(tmp_path, folder / "y")
    check_folders(folder, folder / "y")  # what was named may be anybody's
    folder.chmod(0o1777)
    with opened_folder(folder, create=True):
        pass


def test_a_user_without_a_name_has_a_number() -> None:
    assert user_name(123_456_789) == "user 123456789"
