"""Writing, mapping and syncing a partial file; what its journal keeps is in test_journal.py."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.models.transfer import partial_file
from launcher.models.transfer.journal import arrived_bytes
from launcher.models.transfer.partial_file import PartialFile
from launcher.system.owned_files import NotOurs

SIZE = 3 * mmap.ALLOCATIONGRANULARITY + 95
DATA = bytes(range(1, 252)) * (SIZE // 251 + 1)


@pytest.fixture
def part(tmp_path: Path) -> Iterator[PartialFile]:
    made = PartialFile(tmp_path / "x.part", size_bytes=SIZE, unit_bytes=100, identity="x")
    yield made
    if not made._closed:
        made.close()


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(
    part: PartialFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: pwrite(descriptor, data[:7], at))
    part.write(memoryview(DATA)[:40], 30)
    assert part.path.read_bytes()[:80] == bytes(30) + DATA[:40] + bytes(10)


def test_what_is_not_wanted_is_not_written(part: PartialFile) -> None:
    part.write(memoryview(b"no"), 0, lambda: False)
    part.write(memoryview(b"yes"), 10, lambda: True)
    assert part.path.read_bytes()[:13] == bytes(10) + b"yes"
    part.close()
    part.write(memoryview(b"late"), 0)  # its descriptor may be another file's by now
    part.mark((0,))
    assert part.path.read_bytes()[:13] == bytes(10) + b"yes"
    assert arrived_bytes(part.path) == 0


@pytest.mark.parametrize(
    ("offset", "n_bytes"),
    [
        (0, SIZE),
        (1, 10),
        (mmap.ALLOCATIONGRANULARITY - 1, 2),
        (mmap.ALLOCATIONGRANULARITY, 5),
        (mmap.ALLOCATIONGRANULARITY + 5, mmap.ALLOCATIONGRANULARITY + 1),
        (SIZE - 1, 1),
    ],
)
def test_any_bytes_can_be_mapped(part: PartialFile, offset: int, n_bytes: int) -> None:
    part.write(memoryview(DATA)[:SIZE], 0)
    with part.mapped(offset, n_bytes) as data:
        assert bytes(data) == DATA[offset : offset + n_bytes]


def test_a_kernel_that_cannot_read_ahead_maps_all_the_same(
    part: PartialFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_file, "_MADV_POPULATE_READ", 9999)  # EINVAL
    with part.mapped(3, 2) as data:
        assert bytes(data) == bytes(2)


def test_a_part_of_the_disk_that_cannot_be_read_is_an_error(
    part: PartialFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable(mmap.mmap):
        def madvise(self, *_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(mmap, "mmap", Unreadable)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), part.mapped(3, 2):
        pass


def test_a_sync_tells_how_many_bytes_are_safe_and_the_last_unit_is_short(part: PartialFile) -> None:
    last = SIZE // 100
    assert part.sync() == 0
    part.mark((0, 3, last))
    assert part.sync() == 200 + SIZE % 100
    assert part.sync() == 0


def test_a_sync_that_fails_is_made_up_for(part: PartialFile, monkeypatch: pytest.MonkeyPatch) -> None:
    part.mark((0, 1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", lambda _: Path("/nonexistent").stat())
        with pytest.raises(FileNotFoundError):
            part.sync()
    assert part.sync() == 200
    part.mark((2,))
    part.close()
    assert part.sync() == 0


def test_what_was_written_and_not_synced_is_synced_by_the_next_program(tmp_path: Path) -> None:
    first = PartialFile(tmp_path / "x.part", size_bytes=95, unit_bytes=10, identity="x")
    first.mark((1,))
    assert first.sync() == 10
    first.mark((2, 9))
    first.close()
    second = PartialFile(tmp_path / "x.part", size_bytes=95, unit_bytes=10, identity="x")
    assert second.sync() == 15
    second.close()


def test_units_beyond_the_file_are_not_here(tmp_path: Path) -> None:
    first = PartialFile(tmp_path / "x.part", size_bytes=95, unit_bytes=10, identity="x")
    first.mark((8, 9, 10, 95))
    first.close()
    second = PartialFile(tmp_path / "x.part", size_bytes=95, unit_bytes=10, identity="x")
    assert second.whole == {8, 9}
    second.close()


def test_the_disk_space_is_there_from_the_beginning(tmp_path: Path) -> None:
    made = PartialFile(tmp_path / "x.part", size_bytes=1 << 20, unit_bytes=1 << 16, identity="x")
    status = made.path.stat()
    assert (status.st_size, status.st_blocks * 512 >= 1 << 20) == (1 << 20, True)
    made.close()
    empty = PartialFile(tmp_path / "y.part", size_bytes=0, unit_bytes=1 << 16, identity="y")
    assert (empty.path.stat().st_size, empty.whole, empty.sync()) == (0, set(), 0)
    empty.close()


class Libc:
    """A C library whose fallocate64, if it has one, answers `number`; `asked` are the sizes."""

    def __init__(self, number: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []

        def fallocate64(_descriptor: int, _mode: int, _offset: int, size: int) -> int:
            self.asked.append(size)
            return -1 if number else 0

        names = {} if number is None else {"fallocate64": fallocate64}
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(**names))
        monkeypatch.setattr(ctypes, "get_errno", lambda: number)


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_that_cannot_preallocate_gets_a_sparse_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    Libc(number, monkeypatch)
    made = PartialFile(tmp_path / "x.part", size_bytes=1 << 20, unit_bytes=1 << 16, identity="x")
    assert made.path.stat().st_size == 1 << 20
    made.close()


def test_a_full_disk_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Libc(errno.ENOSPC, monkeypatch)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        PartialFile(tmp_path / "x.part", size_bytes=1 << 20, unit_bytes=1 << 16, identity="x")


def test_what_is_on_the_disk_already_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1 << 16
    (tmp_path / "x.part").write_bytes(b"x" * size)
    libc = Libc(0, monkeypatch)
    for size_bytes, asked in ((size, []), (size + (1 << 20), [size + (1 << 20)])):
        PartialFile(tmp_path / "x.part", size_bytes=size_bytes, unit_bytes=1 << 16, identity="x").close()
        assert libc.asked == asked


def test_the_file_that_was_filled_gets_the_name_and_no_other(part: PartialFile, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(SIZE))
    part.close()
    filled = part.path.rename(tmp_path / "aside")
    part.path.symlink_to(other)
    with pytest.raises(NotOurs, match="exchanged"):
        part.become(tmp_path / "x")
    part.path.unlink()
    filled.rename(part.path)
    part.become(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == bytes(SIZE)
    assert not part.path.exists()
