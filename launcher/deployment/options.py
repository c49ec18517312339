"""What a launcher tells the supervisor it starts: in the record, where `restart` finds it when the supervisor is gone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from launcher.deployment.process import GRACE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """What a supervisor is to do, beside what the deployment is. `memory_bytes` is the limit of its memory group.

    `history` is the file every load is noted in, `engine`, `driver` and the `attempt` (saves, correction, step) are
    what is noted with it. `claim` is what was promised (bytes by row), `claim_file` where that is said. `devices`
    are the planned GPUs whose drivers are asked: UUID by llama.cpp's name. `passed` are variables that change llama-server
    and were given on purpose: systemd adds its own environment.
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


_PROGRAM = "launcher.deployment.supervisor"
"""Started, not imported: it adds what only modules above this package know."""


def supervisor_command(state_file: Path) -> tuple[str, ...]:
    """The supervisor's own command line. -P: the folder it starts in is nobody's package."""
    return (sys.executable, "-P", "-m", _PROGRAM, str(state_file))


def parse_options(given: Mapping[str, Any]) -> SupervisorOptions:
    """The options in a record; what another version of this program wrote beside them is left out."""
    known = {each.name for each in fields(SupervisorOptions)}
    return SupervisorOptions(**{name: value for name, value in given.items() if name in known})
