"""Write files that are complete or unchanged, whatever ends the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
