"""The sha256 of a file that arrives in pieces, hashed in file order."""

from __future__ import annotations

import hashlib
import threading

from launcher.models.transfer.partial_file import PartialFile
from launcher.units import MIB

_READ_BACK_BYTES = 4 * MIB  # mapped, so counted as memory of this process, once per shard under way


class Digest:
    """A running sha256 of a partial file. Safe for threads."""

    def __init__(self, partial_file: PartialFile, *, hashes: bool) -> None:
        self._partial_file, self._hashes = partial_file, hashes  # without `hashes`, bytes are only counted
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()
        self._first_try = True
        self.position = 0
        """Bytes hashed so far, from the file's start."""

    def feed(self, data: memoryview, position: int, begin: int) -> None:
        """Hash `data`, just written at `position`, if the hash is less than one unit behind.

        The file must be complete from `begin` to `position`.
        """
        # The processor's caches still hold `data`. The gap before it is read back from the page cache; what
        # is further ahead is left to `follow`.
        if not self._lock.acquire(blocking=False):  # another thread hashes, and catches up
            return
        try:
            ahead = position - self.position
            in_reach = begin <= self.position and 0 <= ahead < self._partial_file.unit_bytes
            if self._first_try and in_reach:
                self._read_back(position)
                self._update(data)
        finally:
            self._lock.release()

    def follow(self, end: int) -> None:
        with self._lock:
            self._read_back(min(end, self.position + _READ_BACK_BYTES))

    def restart(self) -> None:
        self._partial_file.drain()
        with self._lock:
            # From now on the bytes are hashed as they are in the file, not as they arrive: a late write of
            # the first try, the last of which `drain` waited for, may have gone between.
            self._sha256, self.position, self._first_try = hashlib.sha256(), 0, False

    def hexdigest(self) -> str | None:
        return self._sha256.hexdigest() if self._hashes else None

    def _read_back(self, end: int) -> None:
        while self.position < end:
            n_bytes = min(end - self.position, _READ_BACK_BYTES)
            if self._hashes:
                with self._partial_file.mapped(self.position, n_bytes) as data:
                    self._sha256.update(data)
            self.position += n_bytes

    def _update(self, data: memoryview) -> None:
        if self._hashes:
            self._sha256.update(data)
        self.position += len(data)
