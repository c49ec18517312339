"""Hold what a launcher tells the supervisor it starts, as part of the record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from launcher.deployment.process import GRACE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """What a supervisor is to do."""

    keep_up: bool = False
    canary: bool = False
    idle_s: float = 120.0  # ready.StallLimits
    busy_s: float = 1800.0
    grace_s: float = GRACE_S
    check_s: float = 30.0  # between two health checks
    memory_bytes: int | None = None  # the limit of the memory group
    history: str | None = None  # the file that every load is noted in, with driver and attempt
    driver: str | None = None
    attempt: dict[str, Any] = field(default_factory=dict)  # saves, correction, step
    claim: dict[str, int] = field(default_factory=dict)  # reserved bytes by row
    claim_folder: str | None = None
    devices: dict[str, str] = field(default_factory=dict)  # planned GPUs: UUID by llama.cpp's name
    # Variables that change llama-server and were given on purpose; systemd adds others of its own.
    passed: tuple[str, ...] = ()


# Started, not imported: a supervisor imports little, so that it stays small.
_PROGRAM = "launcher.deployment.supervisor"


def supervisor_command(state_file: Path) -> tuple[str, ...]:
    """Return the command line of a supervisor for this record."""
    # -P: modules in the folder it starts in are not imported.
    return (sys.executable, "-P", "-m", _PROGRAM, str(state_file))


def parse_options(given: Mapping[str, Any]) -> SupervisorOptions:
    """Return the options in a record, without those that this version does not know."""
    known = {field.name for field in fields(SupervisorOptions)}
    return SupervisorOptions(**{name: value for name, value in given.items() if name in known})
