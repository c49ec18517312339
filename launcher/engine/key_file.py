"""Read a file of API keys as llama-server does: one key a line, a line that begins with # is a comment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from launcher.errors import UsageError

_MAX_BYTES = 64 << 10  # a thousand keys; a key of launcher's README has 43 characters
_MOST_OF_A_KEY = 8000  # cpp-httplib refuses a header of 8192 (CPPHTTPLIB_HEADER_MAX_LENGTH)


def read_api_key(path: Path | str | None) -> str | None:
    """Return the first key in llama-server's key file, None without a file.

    Raises UsageError if the file cannot be read, or holds no key or one that llama-server would refuse.
    """
    if path is None:
        return None
    return read_keys(path)[0]


def read_keys(path: Path | str) -> tuple[str, ...]:
    """Return the keys in the file, at least one.

    Raises UsageError if it cannot be read, holds no key, or one that no client could send.
    """
    try:
        return _keys_in(_read(Path(path)).decode("utf-8"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        problem = "cannot be read: it is not UTF-8 text"
    except ValueError as error:
        problem = str(error)
    raise UsageError(f"the API key file {path} {problem}", hint="write one key into it, with Unix line ends")


def _read(path: Path) -> bytes:
    # llama-server opens it once more, so it is no pipe; without O_NONBLOCK a FIFO would wait for its writer
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        content = os.read(descriptor, _MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"has more than {_MAX_BYTES} bytes")
    return content


def _keys_in(text: str) -> tuple[str, ...]:
    """Return the keys. Raises ValueError with the end of a sentence."""
    # common/arg.cpp at 0c1e570: std::getline, lines that are empty or begin with # are skipped, and every
    # other line is a key as it is: with its blanks and its carriage return, which no HTTP header carries
    keys = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        if line.endswith("\r"):
            raise ValueError(f"has Windows line ends (CRLF) in line {number}: they would be part of the key")
        if line != line.strip():
            raise ValueError(f"has blanks before or after the key in line {number}: they would be part of it")
        if not (line.isascii() and line.isprintable()):
            raise ValueError(f"has a character in line {number} that HTTP headers do not carry")
        if len(line) > _MOST_OF_A_KEY:
            raise ValueError(
                f"has a key of {len(line)} characters in line {number}, more than {_MOST_OF_A_KEY}"
            )
        keys.append(line)
    if not keys:
        raise ValueError("holds no key")
    return tuple(keys)
