"""Keep keys that are pressed during an answer off the screen."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator


@contextlib.contextmanager
def keys_unseen() -> Iterator[None]:
    """Have the terminal echo nothing during the block; what is typed is read afterwards, Ctrl-C works."""
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (AttributeError, OSError, ValueError, termios.error):  # no terminal
        yield
        return
    unseen = [*before]
    unseen[3] &= ~termios.ECHO  # local modes
    termios.tcsetattr(descriptor, termios.TCSANOW, unseen)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
