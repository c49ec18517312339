"""Read small text files that people write or hand around: profiles, machines, the config file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_TEXT_BYTES = 1 << 20  # the largest shipped profile has 30 KB


def read_small_text(path: Path, *, pipes: bool = False, most_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the UTF-8 text of at most `most_bytes` in a regular file, or in a pipe if `pipes`.

    Raises OSError or UnicodeDecodeError.
    """
    # O_NONBLOCK: a pipe that was planted is not waited for; nor is a device or a log of gigabytes read
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if pipes else os.O_NONBLOCK))
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or (pipes and stat.S_ISFIFO(mode))):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes} bytes", str(path))
    return data.decode("utf-8").replace("\r\n", "\n")
