"""Bind a command line to CPUs with util-linux's taskset, and read such a command line."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.machine.machine import format_cpu_list

_TASKSET = "/usr/bin/taskset"
"""It sets its own CPU affinity, then becomes the program (execvp): no process stays in between."""


def taskset_prefix(cpus: Sequence[int]) -> tuple[str, ...]:
    """Return the words that start a program on these CPUs, none if `cpus` is empty."""
    return (_TASKSET, "--cpu-list", format_cpu_list(cpus)) if cpus else ()


def split_taskset(argv: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the CPU list of a bound command line (None if it is not bound) and the command itself."""
    if len(argv) > 2 and tuple(argv[:2]) == (_TASKSET, "--cpu-list"):
        return argv[2], tuple(argv[3:])
    return None, tuple(argv)
