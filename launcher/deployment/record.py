"""A deployment as a value, and as the JSON of its state file. No file is touched here."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from launcher.deployment.identity import ProcessId
from launcher.engine.log.cause import Cause, CauseKind
from launcher.errors import UsageError

SCHEMA = 1
"""Of the state file. A file of another schema is reported, not read."""

NAME_LIMIT = 64
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{NAME_LIMIT - 1}}}")


class Phase(StrEnum):
    """How far it got: `ready` is written once a token was produced, `stopping` before the first signal, so that
    whoever attends the process knows an ending that was asked for. `degraded`, `backoff` and `failed` are the
    supervisor's (lifecycle.State)."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One model, served. `url` can be connected to (clients append /v1); `host` is what llama-server binds.

    `process` is None between the claim of name and port and the start. `starter` is the launcher that
    starts it, `supervisor` who keeps it (None before it began, and in records of launchers without one).
    `plan` is the plan's JSON document and `plan_hash` what a second `up` is compared by. `restarts` counts those
    of this supervisor, `failure` is why llama-server ended last. `unit` is systemd's, where that keeps the supervisor up;
    `options` are the supervisor's (options.Options).
    """

    name: str
    model_id: str
    url: str
    host: str
    port: int
    process: ProcessId | None
    starter: ProcessId | None
    phase: Phase
    model_path: str
    model_bytes: int
    argv: tuple[str, ...]
    env_dropped: tuple[str, ...]
    plan: Mapping[str, Any]
    plan_hash: str
    log_path: str
    engine_path: str
    engine_sha256: str | None
    engine_commit: str | None
    api_key_file: str | None
    started_at: str
    supervisor: ProcessId | None = None
    restarts: int = 0
    failure: Cause | None = None
    unit: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A state file that says nothing: what is wrong with it, in a sentence. `launcher stop` removes it."""

    name: str
    path: str
    problem: str


def deployment_name(model_id: str) -> str:
    """A name derived from a model id: `unsloth/Kimi-K2.5-GGUF:TQ1_0` -> `kimi-k2.5-gguf-tq1_0`."""
    last = model_id.rstrip("/").rpartition("/")[2].removesuffix(".gguf").lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("-._")[:NAME_LIMIT].rstrip("-._") or "model"


def is_name(text: str) -> bool:
    """Whether a deployment can be called that."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """`name`, when it can be one (it becomes a file's name). Raises UsageError."""
    if not is_name(name):
        raise UsageError(
            f"name {name!r} is not made of at most {NAME_LIMIT} of a-z, 0-9, '.', '_' and '-'",
            hint=f"--name {deployment_name(name)}",
        )
    return name


def plan_hash(document: Mapping[str, Any]) -> str:
    """A short hash of a JSON document, the same for equal documents."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def document(deployment: Deployment) -> dict[str, Any]:
    """The deployment as JSON, as it is stored and as `--json` prints it."""
    flat = asdict(replace(deployment, plan={}))
    return {
        "schema": SCHEMA,
        "pid": deployment.pid,
        "openai_url": f"{deployment.url}/v1",
        **flat,
        "plan": dict(deployment.plan),
    }


def parse_deployment(text: str) -> Deployment:
    """The deployment in a state file. Raises ValueError with a sentence."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(given, dict) or "schema" not in given:
        raise ValueError("it is not a deployment's state")
    if given["schema"] != SCHEMA:
        raise ValueError(f"it has schema {given['schema']!r}; this launcher reads {SCHEMA}")
    return Deployment(
        name=_text(given, "name"),
        model_id=_text(given, "model_id"),
        url=_text(given, "url"),
        host=_text(given, "host"),
        port=_whole(given, "port"),
        process=_process(given, "process"),
        starter=_process(given, "starter"),
        phase=_phase(given),
        model_path=_text(given, "model_path"),
        model_bytes=_whole(given, "model_bytes"),
        argv=_texts(given, "argv"),
        env_dropped=_texts(given, "env_dropped"),
        plan=_mapping(given, "plan"),
        plan_hash=_text(given, "plan_hash"),
        log_path=_text(given, "log_path"),
        engine_path=_text(given, "engine_path"),
        engine_sha256=_maybe_text(given, "engine_sha256"),
        engine_commit=_maybe_text(given, "engine_commit"),
        api_key_file=_maybe_text(given, "api_key_file"),
        started_at=_text(given, "started_at"),
        supervisor=_process(given, "supervisor"),
        restarts=_whole(given, "restarts") if "restarts" in given else 0,
        failure=_failure(given),
        unit=_maybe_text(given, "unit"),
        options=_mapping(given, "options") if "options" in given else {},
    )


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is not a text")  # noqa: TRY004  one kind of error for a bad file
    return value


def _maybe_text(given: Mapping[str, Any], key: str) -> str | None:
    return None if given.get(key) is None else _text(given, key)


def _whole(given: Mapping[str, Any], key: str) -> int:
    value = given.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is not a whole number")
    return value


def _texts(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = given.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} is not a list of texts")
    return tuple(value)


def _mapping(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = given.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not an object")  # noqa: TRY004  one kind of error for a bad file
    return value


def _phase(given: Mapping[str, Any]) -> Phase:
    try:
        return Phase(_text(given, "phase"))
    except ValueError as error:
        raise ValueError(f"phase {given.get('phase')!r} is not one this launcher knows") from error


def _failure(given: Mapping[str, Any]) -> Cause | None:
    value = given.get("failure")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("failure is not an object")  # noqa: TRY004  one kind of error for a bad file
    try:
        kind = CauseKind(_text(value, "kind"))
    except ValueError:
        kind = CauseKind.OTHER  # of a newer launcher: its sentence says what it is
    return Cause(
        kind=kind,
        sentence=_text(value, "sentence"),
        remedy=_maybe_text(value, "remedy"),
        where=_maybe_text(value, "where"),
        part=_maybe_text(value, "part"),
        need_bytes=_whole(value, "need_bytes") if value.get("need_bytes") is not None else None,
        had_bytes=_whole(value, "had_bytes") if value.get("had_bytes") is not None else None,
    )


def _process(given: Mapping[str, Any], key: str) -> ProcessId | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("start_time"), int | float):
        raise ValueError(f"{key} is not a process")  # noqa: TRY004  one kind of error for a bad file
    if _whole(value, "pid") == 0:
        raise ValueError(f"{key} has no pid")
    return ProcessId(
        pid=_whole(value, "pid"),
        start_time=float(value["start_time"]),
        boot_id=_maybe_text(value, "boot_id"),
        hostname=_text(value, "hostname"),
    )
