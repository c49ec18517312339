"""Open, bound, read and follow a deployment's log.

Its supervisor writes it, and begins a new file when it is full.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from launcher.system.small_files import open_regular

LOG_LIMIT_BYTES = 64 << 20
_N_OLD_LOGS = 2
_SPACE_BYTES = 4096  # a block: a new log that has no space for one is not begun
_POLL_S = 0.1
_BLOCK = 1 << 20


def open_log(path: Path) -> int:
    """Open a fresh log (0600, append only) in place of the last. Raises OSError; then nothing has moved."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(fresh, flags, 0o600)
    try:
        os.write(descriptor, bytes(_SPACE_BYTES))  # a full disk still makes empty files
        os.ftruncate(descriptor, 0)
        _clear(path)
        if os.path.lexists(path):
            _shift(path)
            path.replace(_previous(path, 1))
        fresh.replace(path)
    except BaseException:
        os.close(descriptor)
        fresh.unlink(missing_ok=True)
        raise
    return descriptor


def trim(path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
    """Copy the end of a log above `limit_bytes` to `.1` and empty it; on a full disk leave all as it is."""
    # For logs that no supervisor bounds: what has ended, and servers that append themselves (started by a
    # launcher before 2026-12), whose lines between the last byte copied and the truncation are lost.
    copied = path.with_name(f".{path.name}.copy")
    with contextlib.suppress(OSError), path.open("r+b", buffering=0) as log:
        size = os.fstat(log.fileno()).st_size
        if size <= limit_bytes:
            return
        log.seek(max(0, size - 2 * limit_bytes))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(copied, flags, 0o600), "wb") as copy:
                while block := log.read(_BLOCK):
                    copy.write(block)
            _shift(path)
            copied.replace(_previous(path, 1))
        finally:
            copied.unlink(missing_ok=True)
        log.truncate(0)  # the server appends, so its next write lands at the new end


def tail(path: Path, n_bytes: int = 64 << 10) -> str:
    """Return the end of the log, from the beginning of a line."""
    try:
        with open_regular(path) as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - n_bytes))
            text = log.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return text if size <= n_bytes else text.partition("\n")[2]


def head(path: Path, n_bytes: int = 4 << 20) -> str:
    """Return the beginning of the log, which tells of the load (some 100 KiB)."""
    try:
        with open_regular(path) as log:
            return log.read(n_bytes).decode("utf-8", errors="replace")
    except OSError:
        return ""


def log_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_from(path: Path, start: int, limit: int) -> str:
    """Return what was written after the first `start` bytes: `limit` bytes of its beginning and end."""
    try:
        with open_regular(path) as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(start if start <= size else 0)  # it may have been emptied since
            data = log.read(limit)
            if size - log.tell() > 0:
                log.seek(max(log.tell(), size - limit))
                data += log.read(limit)
    except OSError:
        return ""
    return data.decode("utf-8", errors="replace")


def follow(
    path: Path, *, last_lines: int | None = None, ended: Callable[[], bool] | None = None
) -> Iterator[str]:
    """Yield the log's lines, then new ones as they come, through rotations.

    Waits for a log that does not exist yet. Returns once `ended()` is true and everything written before was
    yielded.
    """
    log: BinaryIO | None = None
    start = 0 if last_lines is None else _offset_of_last(path, last_lines)
    rest = b""
    try:
        while True:
            over = ended is not None and ended()  # before reading, so that the last lines are read
            if log is None and (log := _opened(path)) is not None:
                log.seek(start)
                start = 0
            moved = log is not None and _moved(path, log)  # before reading, for the same reason
            block = _unread(log)
            *lines, rest = (rest + block).split(b"\n")
            is_read = len(block) < _BLOCK
            if rest and (len(rest) >= _BLOCK or (is_read and (moved or over))):
                lines, rest = [*lines, rest], b""
            for line in lines:
                yield line.decode("utf-8", errors="replace")
            if not is_read:
                continue
            if moved and log is not None:
                log.close()
                log = None
            elif over:
                return
            else:
                time.sleep(_POLL_S)
    finally:
        if log is not None:
            log.close()


def _unread(log: BinaryIO | None) -> bytes:
    if log is None:
        return b""
    if os.fstat(log.fileno()).st_size < log.tell():
        log.seek(0)  # it was emptied
    return log.read(_BLOCK)


def _opened(path: Path) -> BinaryIO | None:
    try:
        return open_regular(path)
    except FileNotFoundError:
        return None


def _moved(path: Path, log: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(log.fileno()).st_ino
    except FileNotFoundError:
        return False


def _offset_of_last(path: Path, n_lines: int) -> int:
    try:
        with open_regular(path) as log:
            end = log.seek(0, os.SEEK_END)
            if n_lines == 0:
                return end
            left, position = n_lines, end - 1  # the last byte ends the last line, or is in it
            while position > 0:
                step = min(_BLOCK, position)
                position -= step
                log.seek(position)
                block = log.read(step)
                n_ends = block.count(b"\n")
                if n_ends >= left:
                    return position + _nth_last(block, left) + 1
                left -= n_ends
    except FileNotFoundError:
        pass
    return 0


def _nth_last(block: bytes, n: int) -> int:
    at = len(block)
    for _ in range(n):
        at = block.rindex(b"\n", 0, at)
    return at


def _previous(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _clear(path: Path) -> None:
    # no file is renamed over a folder, nor a folder over a file: an empty one goes
    for name in (path, *(_previous(path, number) for number in range(1, _N_OLD_LOGS + 1))):
        if name.is_dir() and not name.is_symlink():
            with contextlib.suppress(OSError):
                name.rmdir()


def _shift(path: Path) -> None:
    for number in range(_N_OLD_LOGS, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            _previous(path, number - 1).replace(_previous(path, number))
