"""Describe this machine to a launcher elsewhere, and read such a description."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.commands.claims import unreserved_machine
from launcher.commands.engine import engine_or_none
from launcher.commands.here import Here
from launcher.commands.probe import THIS_MACHINE, look_once
from launcher.deployment.cluster.nodes import MOST_MACHINE
from launcher.engine.capabilities import read_capabilities
from launcher.errors import UsageError
from launcher.machine.from_toml import parse_machine
from launcher.machine.machine import Machine
from launcher.machine.peers import refuse_peers
from launcher.machine.to_toml import format_machine
from launcher.system.json_object import JsonObject, Malformed

_SCHEMA = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A machine with what is free there now, and the engine that it would run."""

    machine: Machine
    engine_sha256: str | None

    @property
    def text(self) -> str:
        return format_machine(self.machine)


def describe_machine(here: Here) -> Description:
    """Return this machine, less what is claimed, with the engine that runs here."""
    look = look_once(here)
    engine = engine_or_none(here, None, look)
    known = read_capabilities(engine, here.settings.cache_dir) if engine else None
    machine = unreserved_machine(here, THIS_MACHINE, engine, look)
    return Description(machine=machine, engine_sha256=known.sha256 if known else None)


def description_json(described: Description) -> dict[str, object]:
    return {"schema": _SCHEMA, "machine": described.text, "engine_sha256": described.engine_sha256}


def read_description(answer: object, name: str) -> Description:
    """Read what the launcher on machine `name` says of it. Raises UsageError."""
    try:
        given = JsonObject(answer)
        given.whole("schema", _SCHEMA, _SCHEMA)
        text, digest = _read_text(given), _read_digest(given)
    except Malformed as error:
        raise UsageError(
            f"what {name} says of itself cannot be read: {error}",
            hint=f"launcher --version, here and on {name}",
        ) from error
    machine = parse_machine(text, name)
    refuse_peers(machine, name)
    return Description(machine=machine, engine_sha256=digest)


def _read_text(given: JsonObject) -> str:
    text = given.text("machine")
    if len(text) > MOST_MACHINE:
        raise given.malformed("machine", f"has more than {MOST_MACHINE} characters")
    return text


def _read_digest(given: JsonObject) -> str | None:
    digest = given.optional_text("engine_sha256")
    if digest is not None and not _SHA256.fullmatch(digest):
        raise given.malformed("engine_sha256", "is no sha256")
    return digest
