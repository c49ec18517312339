"""Open and read files that may be anything by now: profiles, locks, caches, logs, models."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

MAX_TEXT_BYTES = 1 << 20  # the largest shipped profile has 30 KB


def open_regular(path: Path | str, flags: int = os.O_RDONLY, *, pipes: bool = False) -> io.BufferedReader:
    """Open a regular file, or a pipe if `pipes`, for reading. Raises OSError."""
    # O_NONBLOCK: a pipe that was planted is not waited for; nor is a device read, which has no end
    descriptor = os.open(path, flags | os.O_CLOEXEC | (0 if pipes else os.O_NONBLOCK))
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode))):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_small(path: Path | str, most_bytes: int = MAX_TEXT_BYTES, *, pipes: bool = False) -> bytes:
    """Return a file of at most `most_bytes`. Raises OSError."""
    with open_regular(path, pipes=pipes) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes} bytes", str(path))
    return data


def read_small_text(path: Path, *, pipes: bool = False, most_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the UTF-8 text of at most `most_bytes` in a regular file, or in a pipe if `pipes`.

    Raises OSError or UnicodeDecodeError.
    """
    return read_small(path, most_bytes, pipes=pipes).decode("utf-8").replace("\r\n", "\n")
