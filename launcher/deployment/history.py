"""Note every load in a file: what was planned, what llama-server allocated, how it ended, and what saved it.

JSON lines, appended whole, rotated at HISTORY_LIMIT_BYTES. A correction that saved a load is used again for the same
plan, engine and driver only: nothing is averaged, no margin is learned.
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
from launcher.plan.amounts import LedgerRow
from launcher.plan.as_json import plan_json
from launcher.plan.plan import Plan

_SCHEMA = 1
HISTORY_LIMIT_BYTES = 4 << 20

HistoryRow = tuple[str, Mapping[str, int], Mapping[str, int]]
"""A row of the ledger: where, planned bytes by kind, seen bytes by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a correction is remembered for: `plan_key`, sha256 of the engine, versions of the drivers."""

    plan: str
    engine: str | None
    driver: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One load, as a line of the history holds it.

    `driver_bytes` is the growth of memory in use during the load, by device, as its driver reports it. An attempt to
    save a plan that had failed says which (`saves`), how (`correction`) and in what words (`step`).
    """

    at: str
    name: str
    model_id: str
    identity: Identity
    outcome: str
    load_s: float | None
    cause: str | None = None
    rows: tuple[HistoryRow, ...] = ()
    driver_bytes: Mapping[str, int] = field(default_factory=dict)
    resident_bytes: int | None = None
    step: str | None = None
    saves: Identity | None = None
    correction: Mapping[str, Any] = field(default_factory=dict)


def plan_key(plan: Plan) -> str:
    """Hash what a plan decides; the memory that happened to be free is left out."""
    document = plan_json(plan)
    decided = {key: document[key] for key in ("model", "quant", "context", "settings", "placement")}
    text = json.dumps(decided, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare_rows(ledger: Iterable[LedgerRow], seen: Iterable[RowUsage]) -> tuple[HistoryRow, ...]:
    """Pair planned with logged bytes, row by row; a row that the log does not name has no logged bytes."""
    by_row = {row.where: row for row in seen}
    return tuple((row.where, _planned(row), _seen(by_row.get(row.where))) for row in ledger)


def _planned(row: LedgerRow) -> dict[str, int]:
    return {
        "weights_bytes": row.weights.n_bytes,
        "kv_bytes": row.kv.n_bytes,
        "compute_bytes": row.compute.n_bytes,
    }


def _seen(row: RowUsage | None) -> dict[str, int]:
    if row is None:
        return {}
    return {"weights_bytes": row.weights_bytes, "kv_bytes": row.kv_bytes, "compute_bytes": row.compute_bytes}


def append_entry(path: Path, entry: HistoryEntry) -> None:
    """Append a line. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > HISTORY_LIMIT_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    line = json.dumps({"schema": _SCHEMA, **asdict(entry)}, ensure_ascii=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())  # one write: lines of two writers do not mix
    finally:
        os.close(descriptor)


def read_history(path: Path) -> tuple[HistoryEntry, ...]:
    """Return all entries, oldest first.

    Lines that cannot be read, after a power cut or from a newer launcher, are left out.
    """
    return tuple(_entries(path.with_name(f"{path.name}.1"))) + tuple(_entries(path))


def find_correction(entries: Sequence[HistoryEntry], identity: Identity) -> Mapping[str, Any] | None:
    """Return the correction that last saved this plan on this engine and driver.

    None if none did, or if it has failed since.
    """
    for entry in reversed(entries):
        if entry.saves == identity:
            return entry.correction if entry.outcome == "ready" else None
    return None


def attempt_from(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry that say which failed plan a load is to save."""
    saves = given.get("saves")
    return {
        "step": given.get("step"),
        "saves": None if saves is None else Identity(**saves),
        "correction": given.get("correction") or {},
    }


def outcome_of(cause: Cause | None) -> str:
    """Return the word for how a load ended; `failed` may be before it was ready, or later."""
    return "ready" if cause is None else "failed"


def _entries(path: Path) -> Iterator[HistoryEntry]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            given = json.loads(line)
            if given.pop("schema") == _SCHEMA:
                saves = given.pop("saves")
                yield HistoryEntry(
                    **{
                        **given,
                        "identity": Identity(**given["identity"]),
                        "saves": None if saves is None else Identity(**saves),
                        "rows": tuple((where, planned, seen) for where, planned, seen in given["rows"]),
                    }
                )
