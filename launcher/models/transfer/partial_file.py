"""A file being filled: preallocated, written at any offset, with a journal of its whole units."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.models.transfer.journal import Journal, journal_path, read_journal
from launcher.system.atomic_files import sync_folder
from launcher.system.owned_files import NotOurs, Owner, open_file

_MADV_POPULATE_READ = 22
"""linux/mman.h, since 5.14 (EINVAL before): an unreadable disk raises OSError at once, not SIGBUS later."""
_NO_PREALLOCATION = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class PartialFile:
    """A partial file, open for writing. Raises OSError as the disk does. Safe for threads."""

    def __init__(self, path: Path, *, size_bytes: int, unit_bytes: int, identity: str) -> None:
        self.path = path
        self._size_bytes, self.unit_bytes = size_bytes, unit_bytes
        self._about: dict[str, str | int] = {"identity": identity, "size": size_bytes, "unit": unit_bytes}
        self._lock = threading.Lock()
        # one sync at a time: whoever returns from `sync` knows that all is on the disk
        self._syncing = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._writing: set[object] = set()
        self._closed = False
        self._unsynced: set[int] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        # the units here at opening, and the server's word for the file's content
        self.whole, synced, self.version = self._read_state()
        about = self._about | {"version": self.version}
        # the journal first: it says whose file this is, and a full disk may end this at the next step
        self._journal = Journal(journal_path(path), about, self.whole, synced)
        try:
            self._descriptor = open_file(path, os.O_RDWR | os.O_CREAT, owner=Owner.FOLDERS, mode=0o644)
            try:
                self._status = os.fstat(self._descriptor)
                if self._status.st_mode & 0o022:  # only we write to what was verified
                    os.fchmod(self._descriptor, self._status.st_mode & 0o755)
                _preallocate(self._descriptor, size_bytes)
            except BaseException:
                os.close(self._descriptor)
                raise
        except BaseException:
            self._journal.close()
            raise
        self._unsynced |= self.whole - synced

    def write(self, data: memoryview, offset: int, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Write `data` at `offset`, unless closed or `is_wanted()` is false."""
        # to stop writes for good: make `is_wanted` false, then `drain`
        this = object()
        with self._lock:
            if self._closed or not is_wanted():  # once closed, the descriptor may be another file's
                return
            self._writing.add(this)
        try:
            at, end = 0, len(data)
            while at < end:
                at += os.pwrite(self._descriptor, data[at:], offset + at)
        finally:
            with self._lock:
                self._writing.discard(this)
                self._idle.notify_all()

    def drain(self) -> None:
        """Wait for the writes that have begun, not for later ones."""
        with self._lock:
            begun = set(self._writing)
            self._idle.wait_for(lambda: begun.isdisjoint(self._writing))

    @contextmanager
    def mapped(self, offset: int, n_bytes: int) -> Iterator[memoryview]:
        """Map bytes of the file."""
        # read where the page cache has them, not copied
        begin = offset - offset % mmap.ALLOCATIONGRANULARITY
        length = offset + n_bytes - begin
        with mmap.mmap(
            self._descriptor, length, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ, offset=begin
        ) as window:
            try:
                window.madvise(_MADV_POPULATE_READ)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            with memoryview(window) as whole, whole[offset - begin :] as view:
                yield view

    def mark(self, units: Iterable[int]) -> None:
        """Record in the journal that these units are written."""
        units = tuple(units)
        with self._lock:
            if self._closed:
                return
            self._journal.written(units)
            self._unsynced.update(units)

    def sync(self) -> int:
        """Put the marked units on the disk; return their bytes."""
        with self._syncing:
            with self._lock:
                units, self._unsynced = self._unsynced, set()
            if not units or self._closed:
                return 0
            try:
                os.fdatasync(self._descriptor)
            except BaseException:
                with self._lock:
                    self._unsynced |= units
                raise
            with self._lock:
                self._journal.synced(sorted(units))
        return sum(self._unit_size(unit) for unit in units)

    def forget(self, version: str = "") -> None:
        """Count nothing as whole any more; later writes are of this version of the file."""
        with self._syncing, self._lock:
            self._unsynced.clear()
            self._journal.close()
            self.version = version
            self._journal = Journal(journal_path(self.path), self._about | {"version": version}, (), ())

    def close(self) -> None:
        with self._syncing, self._lock:
            self._closed = True
            self._idle.wait_for(lambda: not self._writing)
            self._journal.close()
            os.close(self._descriptor)

    def become(self, path: Path) -> None:
        """Give the file, closed and synced, its name."""
        if not os.path.samestat(self.path.lstat(), self._status):  # and no link that was put in its place
            raise NotOurs("it was exchanged while it was filled", self.path)
        self.path.replace(path)
        sync_folder(path.parent)
        journal_path(self.path).unlink(missing_ok=True)

    def _read_state(self) -> tuple[frozenset[int], frozenset[int], str]:
        # (whole units, those on the disk, version)
        try:
            has_size = self.path.lstat().st_size == self._size_bytes
        except OSError:
            has_size = False
        if not has_size:  # gone, or changed by somebody else: the journal says nothing about it
            return frozenset(), frozenset(), ""
        n_units = -(-self._size_bytes // self.unit_bytes)
        journal = read_journal(journal_path(self.path), self._about)
        inside = set(range(n_units))
        return journal.whole & inside, journal.synced & inside, journal.version

    def _unit_size(self, unit: int) -> int:
        return min(self.unit_bytes, self._size_bytes - unit * self.unit_bytes)


def remove_partial_file(path: Path) -> None:
    # the journal first, so that it never speaks of a file that is not there
    journal_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _preallocate(descriptor: int, size_bytes: int) -> None:
    # So that ENOSPC is raised now and not in the middle. Sparse where the file system cannot preallocate.
    # not os.posix_fallocate: it would then write a byte to every block, hours for 50 GB over a network
    if size_bytes and os.fstat(descriptor).st_blocks * 512 < size_bytes:
        libc = ctypes.CDLL(None, use_errno=True)
        fallocate = getattr(libc, "fallocate64", None)
        if fallocate is not None:
            fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
            if fallocate(descriptor, 0, 0, size_bytes):
                number = ctypes.get_errno()
                if number not in _NO_PREALLOCATION:
                    raise OSError(number, os.strerror(number))
    os.ftruncate(descriptor, size_bytes)
