"""The sha256 of a file that arrives in pieces: fed in file order, by whoever has the next bytes at hand.

A connection that is at the hash's place hands on what it has just read, while the processor still holds it; what
arrived ahead of that is read back from the page cache.
"""

from __future__ import annotations

import hashlib
import threading

from launcher.models.transfer.partial_file import PartialFile
from launcher.units import MIB

_READ_BACK_BYTES = 4 * MIB  # mapped, so counted as memory of this process, once per shard under way


class Digest:
    """Of what `part` is becoming; without `hashes` it only counts. Safe for threads."""

    def __init__(self, part: PartialFile, *, hashes: bool) -> None:
        self._part, self._hashes = part, hashes
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()
        self._first_try = True
        self.position = 0
        """So many bytes from the file's start have been hashed."""

    def feed(self, data: memoryview, position: int, begin: int) -> None:
        """Hash `data`, which has just been written at `position`, if it is next, or next but for less than a unit. All
        from `begin` to there is in the file."""
        if not self._lock.acquire(blocking=False):  # the other one catches up
            return
        try:
            ahead = position - self.position
            if self._first_try and begin <= self.position and 0 <= ahead < self._part.unit_bytes:
                self._read_back(position)
                self._update(data)
        finally:
            self._lock.release()

    def follow(self, end: int) -> None:
        """Hash some of what is here up to `end`, read back from the file."""
        with self._lock:
            self._read_back(min(end, self.position + _READ_BACK_BYTES))

    def anew(self) -> None:
        """The file's bytes are fetched once more, and nothing of the first try is wanted. From now on they are hashed as
        they are in the file and not as they arrive: a late write of the first try, the last of which is waited for, may
        have gone between."""
        self._part.drain()
        with self._lock:
            self._sha256, self.position, self._first_try = hashlib.sha256(), 0, False

    def hexdigest(self) -> str | None:
        return self._sha256.hexdigest() if self._hashes else None

    def _read_back(self, end: int) -> None:
        while self.position < end:
            n_bytes = min(end - self.position, _READ_BACK_BYTES)
            if self._hashes:
                with self._part.mapped(self.position, n_bytes) as data:
                    self._sha256.update(data)
            self.position += n_bytes

    def _update(self, data: memoryview) -> None:
        if self._hashes:
            self._sha256.update(data)
        self.position += len(data)
