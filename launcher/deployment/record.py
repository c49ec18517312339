"""Describe a deployment as a value, and as the JSON of its state file. Touches no file."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from launcher.deployment.address import local_url
from launcher.deployment.identity import ProcessId, read_process
from launcher.deployment.options import SupervisorOptions, parse_options
from launcher.engine.flags.taskset import split_taskset
from launcher.engine.log.cause import Cause, CauseKind
from launcher.errors import UsageError
from launcher.plan.amounts import LedgerRow
from launcher.plan.from_json import VLLM, StoredPlan, read_stored
from launcher.plan.plan import Plan
from launcher.system.json_object import JsonObject, Malformed, parse_json

_SCHEMA = 1  # of the state file; a file of another schema is reported, not read
_MAX_PORT = 65535
_HOST = re.compile(r"[A-Za-z0-9._:%/-]{1,255}")  # an address with a zone, a name, or a socket's path
_MAX_NAME = 64
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{_MAX_NAME - 1}}}")


class Phase(StrEnum):
    """How far a deployment got: lifecycle.State, as its record has it."""

    STARTING = "starting"
    READY = "ready"  # it produced a token
    DEGRADED = "degraded"
    BACKOFF = "backoff"
    STOPPING = (
        "stopping"  # written before the first signal, so that an ending is known to have been asked for
    )
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A served model, as its record describes it."""

    name: str
    model_id: str
    url: str  # can be connected to; clients append /v1
    host: str  # what llama-server binds
    port: int
    process: ProcessId | None  # llama-server; None from the claim of name and port to its start
    starter: ProcessId | None  # the launcher
    phase: Phase
    model_path: str
    model_bytes: int
    argv: tuple[str, ...]
    env_dropped: tuple[str, ...]
    stored_plan: StoredPlan
    plan_hash: str  # tells whether a second `up` asks for the same
    log_path: str
    engine_path: str
    engine_sha256: str | None
    engine_commit: str | None
    api_key_file: str | None
    started_at: str
    supervisor: ProcessId | None = None  # None before it began, and in records of launchers without one
    restarts: int = 0  # by this supervisor
    failure: Cause | None = None  # why llama-server ended last
    unit: str | None = None  # systemd's, if that keeps the supervisor up
    options: SupervisorOptions = field(default_factory=SupervisorOptions)
    seal: str | None = None  # seal.py; None in records of launchers without one

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def plan(self) -> Plan | None:
        """None if it cannot be read; `stored_plan.problem` says why."""
        return self.stored_plan.plan

    @property
    def is_vllm(self) -> bool:
        """True if vLLM serves it, which knows OpenAI's API and not llama-server's."""
        return self.stored_plan.document.get("engine") == VLLM

    @property
    def ledger(self) -> tuple[LedgerRow, ...]:
        return () if self.plan is None else self.plan.ledger

    @property
    def planned_bytes(self) -> dict[str, int]:
        """The most the plan takes, in bytes by device id and HOST."""
        return {row.where: row.used_bytes for row in self.ledger}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRecord:
    """A state file that cannot be read. `launcher stop` removes it."""

    name: str
    path: str
    problem: str


@functools.lru_cache(maxsize=512)  # the gateway asks for the same ones with every request
def deployment_name(model_id: str) -> str:
    """Derive a name from a model id: `unsloth/Kimi-K2.5-GGUF:TQ1_0` -> `kimi-k2.5-gguf-tq1_0`."""
    last = model_id.rstrip("/").rpartition("/")[2].removesuffix(".gguf").lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")[:_MAX_NAME].rstrip("-._") or "model"


def is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def check_name(name: str, *, typed_after: str = "--name") -> str:
    """Return `name` if it can be a deployment's and a file's. Raises UsageError with a name that can."""
    if not is_name(name):
        raise UsageError(
            f"name {name!r} is not made of at most {_MAX_NAME} of a-z, 0-9, '.', '_' and '-'",
            hint=f"{typed_after} {deployment_name(name)}",
        )
    return name


def plan_hash(document: Mapping[str, object]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record_json(deployment: Deployment) -> dict[str, Any]:
    """Return the deployment as it is stored, and as `--json` prints it."""
    flat = asdict(replace(deployment, stored_plan=StoredPlan(document={}, plan=None)))
    del flat["stored_plan"]
    problem = deployment.stored_plan.problem
    return {
        "schema": _SCHEMA,
        "pid": deployment.pid,
        "openai_url": f"{deployment.url}/v1",
        **flat,
        "plan": dict(deployment.stored_plan.document),
        **({} if problem is None else {"plan_problem": problem}),
    }


def parse_deployment(text: str) -> Deployment:
    """Return the deployment in a state file. Raises ValueError with a sentence."""
    try:
        values = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(values, dict) or "schema" not in values:
        raise ValueError("it is not a deployment's state")
    if values["schema"] != _SCHEMA:
        raise ValueError(f"it has schema {repr(values['schema'])[:60]}; this launcher reads {_SCHEMA}")
    given = JsonObject(values)
    host, port = given.text("host"), given.whole("port", 0, _MAX_PORT)
    url, usual = given.text("url").rpartition(":"), local_url(host, port).rpartition(":")
    if _HOST.fullmatch(host) is None or url[0] != usual[0] or not url[2].isascii() or not url[2].isdecimal():
        raise given.malformed("url", "is not where host and port are")  # the API key would be sent there
    return Deployment(
        name=given.text("name"),
        model_id=given.text("model_id"),
        url=given.text("url"),
        host=host,
        port=port,
        process=_process(given, "process"),
        starter=_process(given, "starter"),
        phase=_phase(given),
        model_path=given.text("model_path"),
        model_bytes=given.whole("model_bytes"),
        argv=_argv(given),
        env_dropped=given.texts("env_dropped"),
        stored_plan=read_stored(given.mapping("plan")),
        plan_hash=given.text("plan_hash"),
        log_path=given.text("log_path"),
        engine_path=given.text("engine_path"),
        engine_sha256=given.optional_text("engine_sha256"),
        engine_commit=given.optional_text("engine_commit"),
        api_key_file=given.optional_text("api_key_file"),
        started_at=given.text("started_at"),
        supervisor=_process(given, "supervisor"),
        restarts=given.optional_whole("restarts") or 0,
        failure=_failure(given.object_at("failure")) if given.has("failure") else None,
        unit=given.optional_text("unit"),
        options=parse_options(given.object_at("options")) if given.has("options") else SupervisorOptions(),
        seal=given.optional_text("seal"),
    )


def _argv(given: JsonObject) -> tuple[str, ...]:
    argv = given.texts("argv")
    if not split_taskset(argv)[1] or any("\0" in word for word in argv):
        raise given.malformed("argv", "is no command line")
    return argv


def _phase(given: JsonObject) -> Phase:
    word = given.text("phase")
    if word not in set(Phase):
        raise Malformed(f"phase {word[:60]!r} is not one this launcher knows")
    return Phase(word)


def _failure(given: JsonObject) -> Cause:
    kind = given.text("kind")
    return Cause(
        # A kind of a newer launcher is shown all the same: the sentence says what it is.
        kind=CauseKind(kind) if kind in set(CauseKind) else CauseKind.OTHER,
        sentence=given.text("sentence"),
        remedy=given.optional_text("remedy"),
        where=given.optional_text("where"),
        part=given.optional_text("part"),
        need_bytes=given.optional_whole("need_bytes"),
        had_bytes=given.optional_whole("had_bytes"),
    )


def _process(given: JsonObject, key: str) -> ProcessId | None:
    if not given.has(key):
        return None
    try:
        process = given.object_at(key)
    except Malformed as error:
        raise Malformed(f"{key} is not a process") from error
    if process.whole("pid") == 0:
        raise Malformed(f"{key} has no pid")
    return read_process(process)
