"""The CPUs of this process."""

from __future__ import annotations

import os


def usable_cpus() -> frozenset[int]:
    """Return the logical CPUs that affinity and cpuset leave us."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
