"""Say how another machine is reached, and how launcher is run there. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.system.json_object import JsonObject

_TARGET = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9_][A-Za-z0-9_.:%-]{0,252}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """How ssh gets to a machine, and how launcher is run there."""

    target: str  # what ssh is given: user@host, or a name of its config file
    program: tuple[str, ...] = ("launcher",)
    config: str | None = None  # ssh's -F; None: the user's own


def check_target(target: str) -> str:
    """Return the target. Raises UsageError for one that ssh could take for an option, or a shell for more."""
    if not _TARGET.fullmatch(target):
        raise UsageError(f"{target[:80]!r} is no user@host", hint="launcher cluster add user@host")
    return target


def remote_json(remote: Remote) -> dict[str, object]:
    return {"target": remote.target, "program": list(remote.program), "ssh_config": remote.config}


def read_remote(given: JsonObject) -> Remote:
    """Read how a machine is reached. Raises Malformed, UsageError."""
    program = given.texts("program")
    if not program:
        raise given.malformed("program", "is empty")
    return Remote(
        target=check_target(given.text("target")), program=program, config=given.optional_text("ssh_config")
    )
