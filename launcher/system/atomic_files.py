"""Write files that are complete or unchanged, whatever ends the process."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, *, lasting: bool = False) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` when the block ends without an error.

    Raises OSError.
    """
    # without `lasting`, a power loss may leave an empty file
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # only its owner may read it
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if lasting:  # the bytes are on the disk before the file has its name
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the content of a file, all of it or nothing. Raises OSError."""
    with replacing(path) as file:
        file.write(content)


def write_named(path: Path, content: bytes) -> None:
    """Write a file that the user has named. Raises OSError, also where it is a device, pipe or folder."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):  # root could put a file in the place of /dev/null
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
    write_atomically(path, content)


def sync_folder(folder: Path) -> None:
    """Have a rename in the folder outlast a power cut."""
    with contextlib.suppress(OSError):  # some file systems cannot, and need not
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
