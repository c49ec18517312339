"""Hold what a launcher tells the supervisor it starts.

It is part of the record, so `restart` finds it when the supervisor is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from launcher.deployment.process import GRACE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """What a supervisor is to do.

    idle_s, busy_s   see ready.StallLimits
    check_s          from one health check to the next
    memory_bytes     the limit of the memory group
    history          the file that every load is noted in, with `driver` and the `attempt` (saves, correction, step)
    claim            reserved memory in bytes by row, written to `claim_folder`
    devices          the planned GPUs whose drivers are asked: UUID by llama.cpp's name
    passed           variables that change llama-server and were given on purpose; systemd adds others of its own
    """

    keep_up: bool = False
    canary: bool = False
    idle_s: float = 120.0
    busy_s: float = 1800.0
    grace_s: float = GRACE_S
    check_s: float = 30.0
    memory_bytes: int | None = None
    history: str | None = None
    driver: str | None = None
    attempt: dict[str, Any] = field(default_factory=dict)
    claim: dict[str, int] = field(default_factory=dict)
    claim_folder: str | None = None
    devices: dict[str, str] = field(default_factory=dict)
    passed: tuple[str, ...] = ()


# Started, not imported: a supervisor imports little, so that it stays small.
_PROGRAM = "launcher.deployment.supervisor"


def supervisor_command(state_file: Path) -> tuple[str, ...]:
    """Return the command line of a supervisor for this record."""
    # -P: modules in the folder it starts in are not imported.
    return (sys.executable, "-P", "-m", _PROGRAM, str(state_file))


def parse_options(given: Mapping[str, Any]) -> SupervisorOptions:
    """Return the options in a record; those that only another version of this program knows are left out."""
    known = {field.name for field in fields(SupervisorOptions)}
    return SupervisorOptions(**{name: value for name, value in given.items() if name in known})
