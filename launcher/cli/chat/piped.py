"""Read a question that is piped in or lies in a file, in UTF-8 or in an older encoding."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from launcher.errors import UsageError
from launcher.system.small_files import read_small

_MOST_BYTES = 16 << 20  # more than any context holds


def decode(data: bytes) -> str:
    """Decode text: UTF-8, or else Latin-1, in which every byte is a letter."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def clean_argument(text: str) -> str:
    """Return what was typed as an argument, whose bytes need not be UTF-8 (PEP 383)."""
    return decode(text.encode("utf-8", "surrogateescape"))


def read_question(file: Path) -> str:
    """Return a file's text. Raises UsageError."""
    try:
        return decode(read_small(file, _MOST_BYTES, pipes=True)).strip()
    except OSError as error:
        raise UsageError(f"-f {file} cannot be read: {error.strerror}", hint="name another file") from error


def read_stdin() -> str:
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise UsageError(f"more than {_MOST_BYTES >> 20} MiB were piped in", hint="pipe in less")
    return decode(data).strip()


def piped_text() -> str:
    """Read stdin if it is a pipe or a file; a terminal, /dev/null or a closed stdin gives no text."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return ""
    return read_stdin() if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) else ""
