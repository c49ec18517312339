"""A command line that is bound to CPUs, and the command in it."""

from __future__ import annotations

from collections.abc import Sequence

TASKSET = "/usr/bin/taskset"
"""util-linux's: it sets the CPUs and becomes the program."""


def unbound(argv: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The CPUs that a command line is bound to, None for any, and the command itself."""
    if argv[0] == TASKSET:
        return argv[2], tuple(argv[3:])
    return None, tuple(argv)
