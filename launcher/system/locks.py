"""Let one process write at a time, by a kernel lock that ends with its holder."""

# works between processes of one host, and over NFS if the server does locking

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.system.owned_files import Owner, open_file


@contextmanager
def exclusive(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the lock at `path` inside the block, which gets its file descriptor.

    If another process holds it, call `on_wait` once and wait. Raises OSError, for a planted file as
    `owned_files.open_file`.
    """
    # A child that is given the descriptor (`pass_fds`) keeps the lock until it ends too, even if its parent
    # was killed.
    # the file is never removed: unlinking it would let two processes hold "the same" lock
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(path)
    try:
        if not try_lock(descriptor):
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` inside the block if nobody else does; yield True then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(path)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    # For its owner alone: whoever can open a file can hold its lock for ever.
    return open_file(path, os.O_RDWR | os.O_CREAT, owner=Owner.FOLDERS, mode=0o600)


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process holds it. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # over NFS Linux emulates it
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise
    return True
