"""What reading a hostile file may take, and what may be said of it."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

SOON_S, SMALL_BYTES = 1.0, 8 << 20  # only to catch what is unbounded


@contextmanager
def bounded(most_bytes: int = SMALL_BYTES, soon_s: float = SOON_S) -> Iterator[None]:
    """Fail if the block takes more memory at once, or more CPU time."""
    tracemalloc.start()
    began = time.thread_time()
    try:
        yield
    finally:
        took, most = time.thread_time() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert took < soon_s
    assert most < most_bytes


def check_sentence(words: str, most: int = 1000) -> None:
    assert words.isprintable()
    assert len(words) < most
