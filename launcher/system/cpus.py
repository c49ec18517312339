"""The logical CPUs that this process may use."""

from __future__ import annotations

import os


def usable_cpus() -> frozenset[int]:
    """What affinity and cpuset leave this process."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
