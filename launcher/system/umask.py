"""Keep files of this program from being writable by all users."""

from __future__ import annotations

import os
import stat


def tighten_umask() -> None:
    """Let nothing that this process makes be writable by all users."""
    before = os.umask(0o077)
    # One that masks "others" was chosen: groups that share a cache set 002.
    os.umask(before if before & stat.S_IWOTH else before | 0o022)
