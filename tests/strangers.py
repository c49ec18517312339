"""A second user of this machine, for tests as root."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STRANGER = 65534
"""nobody: a user who is neither root nor the one who runs the tests."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as a second user")


def give(*paths: Path) -> None:
    """Make a stranger the owner."""
    for path in paths:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


@contextmanager
def strangers_process(do: Callable[[], object] = lambda: None) -> Iterator[int]:
    """Do something as the stranger, in a process that lives until the block ends; yield its pid."""
    done, tell = os.pipe()
    pid = os.fork()  # the interpreter may lie where only root can run it
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            held = do()
            os.write(tell, b"y")
            signal.pause()
            del held
        finally:
            os._exit(1)
    os.close(tell)
    try:
        assert os.read(done, 1) == b"y"
        yield pid
    finally:
        os.close(done)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
