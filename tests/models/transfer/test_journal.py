"""Partial files and their journals: what counts after a crash."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.models.transfer import journal
from launcher.models.transfer.journal import arrived_bytes, journal_path, recorded_identity
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file


def open_part(path: Path, *, size: int = 95, identity: str = "abc") -> PartialFile:
    return PartialFile(path, size_bytes=size, unit_bytes=10, identity=identity)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Units 1 and 2 on the disk, 9 (the last, short one) written only."""
    part = open_part(tmp_path / "blob.part")
    part.write(memoryview(b"x" * 20), 10)
    part.mark((1, 2))
    assert part.sync() == 20
    part.write(memoryview(b"y" * 5), 90)
    part.mark((9,))
    part.close()
    return tmp_path / "blob.part"


def test_a_new_file_has_its_size_and_nothing_in_it(tmp_path: Path) -> None:
    part = open_part(tmp_path / "deep" / "blob.part")
    assert (part.path.stat().st_size, part.whole, arrived_bytes(part.path)) == (95, set(), 0)
    part.close()


def test_what_was_written_counts_after_kill_9(path: Path) -> None:
    assert arrived_bytes(path) == 25
    for _ in range(2):
        part = open_part(path)
        assert part.whole == {1, 2, 9}
        part.close()


def test_what_was_on_the_disk_counts_after_a_power_loss(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    part = open_part(path)
    assert part.whole == {1, 2}
    part.close()


def test_without_a_boot_id_only_what_was_on_the_disk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_BOOT_ID", tmp_path / "no such file")
    part = open_part(tmp_path / "blob.part")
    part.mark((1,))
    part.close()
    part = open_part(tmp_path / "blob.part")
    assert part.whole == set()
    part.close()


def test_a_torn_last_line_counts_as_absent(path: Path) -> None:
    whole = journal_path(path).read_bytes()
    for cut in range(len(whole)):
        journal_path(path).write_bytes(whole[:cut])
        part = open_part(path)
        assert part.whole <= {1, 2, 9}
        part.close()


@pytest.mark.parametrize("text", [b"", b"\n", b"[]\ns 1\n", b'{"size": 95}\ns 1\n', b"\xff\xfe\n", b"s 1\n"])
def test_a_journal_that_is_none_counts_as_absent(path: Path, text: bytes) -> None:
    journal_path(path).write_bytes(text)
    part = open_part(path)
    assert part.whole == set()
    part.close()
    assert arrived_bytes(path) == 0


def test_lines_that_mean_nothing_are_passed_over(path: Path) -> None:
    with journal_path(path).open("a") as file:
        file.write("q 5\ns six\nw\n\ns -7\nw 8\n")
    part = open_part(path)
    assert part.whole == {1, 2, 8, 9}
    part.close()
    assert arrived_bytes(path) == 35


@pytest.mark.parametrize("unit", ["10000000000000000000", "10"])
def test_a_unit_beyond_the_file_has_no_bytes(path: Path, unit: str) -> None:
    with journal_path(path).open("a") as file:
        file.write(f"s {unit}\n")
    assert arrived_bytes(path) == 25


def test_a_journal_of_something_else_does_not_count(path: Path) -> None:
    part = open_part(path, identity="another hash")
    assert part.whole == set()
    part.close()


def test_a_file_of_another_size_than_was_left_does_not_count(path: Path) -> None:
    os.truncate(path, 50)
    part = open_part(path)
    assert (part.whole, path.stat().st_size) == (set(), 95)
    part.close()


def test_forgetting_and_removing(path: Path) -> None:
    part = open_part(path)
    part.forget("v2")
    part.close()
    part = open_part(path)
    assert (part.whole, part.version) == (set(), "v2")
    part.close()
    remove_partial_file(path)
    assert list(path.parent.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs root and mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_room_for_the_whole_file_is_taken_at_once(small_disk: Path) -> None:
    first = open_part(small_disk / "a.part", size=5 << 20)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        open_part(small_disk / "b.part", size=5 << 20)
    assert recorded_identity(small_disk / "b.part") == "abc"  # whose it is does not wait for room
    first.close()


@pytest.mark.parametrize(("digits", "units"), [(12, {10**11}), (13, set())])
def test_a_number_of_more_digits_than_any_file_has_units_is_passed_over(digits: int, units: set[int]) -> None:
    assert journal.parse_journal(b"{}\ns 1%s\n" % (b"0" * (digits - 1)), "boot").whole == units
