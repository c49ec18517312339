"""Keep values as lines of JSON: appended whole, bounded, and read whatever the file holds by now."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from launcher.system.json_object import Malformed
from launcher.system.locks import exclusive
from launcher.system.owned_files import open_file
from launcher.system.small_files import read_small

LIMIT_BYTES = 4 << 20  # a longer file becomes `….1`, and a new one is begun
_MOST_BYTES = 2 * LIMIT_BYTES  # the last line before a new file is begun

_Value = TypeVar("_Value")


def append_json(path: Path, document: Mapping[str, object]) -> None:
    """Append a line. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if _is_full(path):
        with exclusive(path.with_name(f"{path.name}.lock")):
            if _is_full(path):  # nobody has begun a new file meanwhile
                path.replace(_older(path))
    line = f"{json.dumps(document)}\n".encode()
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # half a line, after a power cut
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):  # one write: lines of two writers do not mix
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def read_json_lines(path: Path, parse: Callable[[bytes], _Value]) -> Iterator[_Value]:
    """Yield what `parse` makes of each line, oldest first, without those for which it raises Malformed."""
    for each in (_older(path), path):
        try:
            text = read_small(each, _MOST_BYTES)
        except OSError:
            continue
        for line in text.split(b"\n"):
            with contextlib.suppress(Malformed):  # half a line, or one of another launcher's schema
                yield parse(line)


def last_changed(path: Path) -> tuple[tuple[int, int], ...]:
    """Return what differs once a line was appended: the times and sizes of the files that are read."""
    found = []
    for each in (_older(path), path):
        with contextlib.suppress(OSError):
            about = each.stat()
            found.append((about.st_mtime_ns, about.st_size))
    return tuple(found)


def _is_full(path: Path) -> bool:
    try:
        return path.stat().st_size > LIMIT_BYTES
    except FileNotFoundError:
        return False


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
