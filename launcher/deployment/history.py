"""Every load, one line: what was planned, what llama-server took, how it ended. And what saved a launch.

JSON lines, appended whole, rotated at LIMIT_BYTES. A correction that saved a launch is found again for that very
plan, engine and driver, and for nothing else: nothing is averaged, no margin is learned.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher.engine.log.cause import Cause
from launcher.engine.log.load_log import RowUsage

SCHEMA = 1
LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a correction is remembered for. `plan` is `plan_key`'s, `engine` the binary's sha256, `driver` the
    drivers' versions."""

    plan: str
    engine: str | None
    driver: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One load. `rows` are (where, planned bytes by kind, seen bytes by kind), `driver_bytes` what more was
    in use on each device by its driver's account than before the load (no entry where it says nothing). `saves` is the identity of the plan
    that had failed where this load was an attempt to save it, `correction` what it was made with."""

    at: str
    name: str
    model_id: str
    identity: Identity
    outcome: str
    load_s: float | None
    cause: str | None = None
    rows: tuple[tuple[str, Mapping[str, int], Mapping[str, int]], ...] = ()
    driver_bytes: Mapping[str, int] = field(default_factory=dict)
    resident_bytes: int | None = None
    step: str | None = None
    saves: Identity | None = None
    correction: Mapping[str, Any] = field(default_factory=dict)


def plan_key(plan: Mapping[str, Any]) -> str:
    """A short hash of what a plan's JSON decides; not of the memory that happened to be free."""
    decided = {key: plan.get(key) for key in ("model", "quant", "context", "settings", "placement")}
    text = json.dumps(decided, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare(plan: Mapping[str, Any], seen: Iterable[RowUsage]) -> tuple[Any, ...]:
    """Planned against seen, by row of the plan's JSON."""
    host = plan.get("host")
    planned = [(row.get("id"), row) for row in plan.get("devices") or []] + ([("host", host)] if host else [])
    by_row = {row.where: row for row in seen}
    kinds = ("weights_bytes", "kv_bytes", "compute_bytes")
    return tuple(
        (
            where,
            {kind: int(row.get(kind) or 0) for kind in kinds},
            {kind: getattr(by_row[where], kind) for kind in kinds} if where in by_row else {},
        )
        for where, row in planned
    )


def append(path: Path, entry: Entry) -> None:
    """Add a line. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LIMIT_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    line = json.dumps({"schema": SCHEMA, **asdict(entry)}, ensure_ascii=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())  # one write: lines of two writers do not mix
    finally:
        os.close(descriptor)


def read(path: Path) -> tuple[Entry, ...]:
    """All entries, oldest first; lines that cannot be read (a power cut, a newer launcher) are left out."""
    return tuple(_entries(path.with_name(f"{path.name}.1"))) + tuple(_entries(path))


def remembered(entries: Sequence[Entry], identity: Identity) -> Mapping[str, Any] | None:
    """The correction that last saved this very plan on this engine and driver; None where none did, or where it
    has failed since."""
    for entry in reversed(entries):
        if entry.saves == identity:
            return entry.correction if entry.outcome == "ready" else None
    return None


def attempt_from(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry that say which failed plan a load was to save."""
    saves = given.get("saves")
    return {
        "step": given.get("step"),
        "saves": None if saves is None else Identity(**saves),
        "correction": given.get("correction") or {},
    }


def outcome_of(cause: Cause | None) -> str:
    """`ready`, or `failed`: before it was ready, or later."""
    return "ready" if cause is None else "failed"


def _entries(path: Path) -> Iterator[Entry]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            given = json.loads(line)
            if given.pop("schema") == SCHEMA:
                saves = given.pop("saves")
                yield Entry(
                    **{
                        **given,
                        "identity": Identity(**given["identity"]),
                        "saves": None if saves is None else Identity(**saves),
                        "rows": tuple((where, planned, seen) for where, planned, seen in given["rows"]),
                    }
                )
