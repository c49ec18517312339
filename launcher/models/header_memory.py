"""Bound the memory that the headers of this process take together, all models and shards counted."""

from __future__ import annotations

import threading
import weakref
from collections import deque

from launcher.errors import BadGguf
from launcher.gguf.header import Header
from launcher.units import MIB, format_bytes

# With about 55 MiB for the program itself and what planning adds, the whole stays below 200 MiB. Six quants
# of a model with 248k tokens, as many as a plan opens, take 75 MiB.
_MOST_BYTES = 104 * MIB
_TENSOR_BYTES = 1 << 10  # measured: a tensor's object, and what planning keeps about it


class HeaderMemory:
    """The memory taken by headers that are alive. `parsing` is held while one is parsed."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self.parsing = threading.Lock()
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._taken = 0
        # a finalizer may run anywhere, so it takes no lock: appending is atomic
        self._returned: deque[int] = deque()

    @property
    def taken_bytes(self) -> int:
        with self._lock:
            self._settle()
            return self._taken

    def take(self, n_bytes: int) -> None:
        """Count `n_bytes` more. Raises BadGguf if they are too many."""
        with self._lock:
            self._settle()
            if self._taken + n_bytes > self._most_bytes:
                raise BadGguf(
                    f"the headers read so far take {format_bytes(self._taken)} of memory, and with this one "
                    f"they would take more than {format_bytes(self._most_bytes)}",
                    hint="name one quant of the model; a header that is too large alone is no known model's",
                )
            self._taken += n_bytes

    def give_back(self, n_bytes: int) -> None:
        self._returned.append(n_bytes)

    def hold(self, header: Header, n_bytes: int) -> None:
        """Give `n_bytes` back once `header` is gone."""
        weakref.finalize(header, self.give_back, n_bytes).atexit = False

    def _settle(self) -> None:
        while self._returned:
            self._taken -= self._returned.popleft()


HEADER_MEMORY = HeaderMemory()


def parsed_bytes(header: Header) -> int:
    """Return about how much memory the objects of a header take."""
    values = sum(4 * len(value) for value in header.metadata.values() if isinstance(value, str))
    items = sum(
        64 + (4 * len(item) if isinstance(item, str) else 0)
        for value in header.metadata.values()
        if isinstance(value, tuple)
        for item in value
    )
    keys = sum(256 + 4 * len(key) for key in header.metadata)
    return keys + values + items + _TENSOR_BYTES * len(header.tensors)
