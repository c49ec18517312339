"""Files that are there whole or as they were before, whoever else writes or whatever ends the process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, *, lasting: bool = False) -> Iterator[BinaryIO]:
    """A new file in the folder of `path`, which takes its place where the block ends well and is removed where not.

    It is its owner's alone to read (mkstemp). `lasting`: its bytes are on the disk before it takes the place; else a
    power loss may leave an empty file. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """The file is there with all of `content`, or as it was before. Raises OSError."""
    with replacing(path) as file:
        file.write(content)
