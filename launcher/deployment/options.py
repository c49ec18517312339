"""Hold what a launcher tells the supervisor it starts, as part of the record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.deployment.history import RescueNote, parse_rescue
from launcher.deployment.process import GRACE_S
from launcher.engine.environment import is_variable_name
from launcher.system.json_object import JsonObject, Malformed


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
    attempt: RescueNote = field(default_factory=RescueNote)
    claim: Mapping[str, int] = field(default_factory=dict)  # reserved bytes by row
    claim_folder: str | None = None
    devices: Mapping[str, str] = field(default_factory=dict)  # planned GPUs: UUID by llama.cpp's name
    # Variables given with -e, but for those that look like secrets: no file keeps them.
    env: Mapping[str, str] = field(default_factory=dict)
    # Variables that are not passed on unless given on purpose (engine/environment.py), and were; systemd adds
    # others of its own.
    passed: tuple[str, ...] = ()

    engine_pin: str | None = None  # who has chosen its engine for it, in words
    # Of a rank of a gang, a ggml-rpc-server (cluster/rank.py): the run of the gang that it belongs to.
    epoch: int | None = None
    socket: str | None = None  # of a rank: where its server is reached (cluster/private_socket.py)
    node: str | None = None  # the machine of the cluster whose deployment of this name this is the way to
    nodes: tuple[str, ...] = ()  # those that ranks of this gang may be on
    replica_of: str | None = None  # the name under which the gateway serves it beside others like it
    # True: the supervisor writes the log, and bounds it; false in records of launchers before 2026-12
    writes_log: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the variables given with -e whose values no file keeps."""
        return tuple(name for name in self.passed if name not in self.env)


# Started, not imported: a supervisor imports little, so that it stays small.
_PROGRAM = "launcher.deployment.supervisor"


def supervisor_command(state_file: Path) -> tuple[str, ...]:
    # -P: modules in the folder it starts in are not imported.
    return (sys.executable, "-P", "-m", _PROGRAM, str(state_file))


def parse_options(given: JsonObject) -> SupervisorOptions:
    """Return the options in a record, defaults for those it lacks. Raises Malformed."""
    default = SupervisorOptions()

    def seconds(key: str, usual: float) -> float:
        return given.number(key) if given.has(key) else usual

    return SupervisorOptions(
        keep_up=given.has("keep_up") and given.flag("keep_up"),
        canary=given.has("canary") and given.flag("canary"),
        idle_s=seconds("idle_s", default.idle_s),
        busy_s=seconds("busy_s", default.busy_s),
        grace_s=seconds("grace_s", default.grace_s),
        check_s=seconds("check_s", default.check_s),
        memory_bytes=given.optional_whole("memory_bytes"),
        history=given.optional_text("history"),
        driver=given.optional_text("driver"),
        attempt=parse_rescue(given.object_at("attempt")) if given.has("attempt") else default.attempt,
        claim=given.object_at("claim").wholes_by_key() if given.has("claim") else {},
        claim_folder=given.optional_text("claim_folder"),
        devices=given.object_at("devices").texts_by_key() if given.has("devices") else {},
        env=_variables(given.object_at("env").texts_by_key()) if given.has("env") else {},
        engine_pin=given.optional_text("engine_pin"),
        epoch=given.optional_whole("epoch"),
        socket=given.optional_text("socket"),
        node=given.optional_text("node"),
        nodes=given.texts("nodes") if given.has("nodes") else (),
        replica_of=given.optional_text("replica_of"),
        writes_log=given.has("writes_log") and given.flag("writes_log"),
        passed=tuple(_variables(dict.fromkeys(given.texts("passed"), ""))) if given.has("passed") else (),
    )


def _variables(given: dict[str, str]) -> dict[str, str]:
    if not all(is_variable_name(name) and "\0" not in value for name, value in given.items()):
        raise Malformed("options has a variable that no program could be given")
    return given
