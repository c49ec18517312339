"""Keep stdin, stdout and stderr usable: closed, full, or in an encoding that lacks letters."""

from __future__ import annotations

import codecs
import io
import os
import sys


def write_anyhow() -> None:
    """Have stdout write every text, whatever its encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("launcher", _write_anyhow)
        sys.stdout.reconfigure(errors="launcher")


def _write_anyhow(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write file names that are not UTF-8 as they are (PEP 383), and ? for what a terminal does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    written = (bytes([ord(each) - 0xDC00]) if 0xDC80 <= ord(each) <= 0xDCFF else b"?" for each in letters)
    return b"".join(written), error.end


def open_closed_streams() -> None:
    """Open /dev/null in place of a standard stream that is closed (`>&-`): nobody reads it."""
    # Else a file of ours would get its number, and print would write into that.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def is_flushed() -> bool:
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return False
    return True


def silence_stdout() -> None:
    # Python would complain again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
