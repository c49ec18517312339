"""Note every load in a file of JSON lines: what was planned, allocated, and how it ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from launcher.engine.log.cause import Cause
from launcher.engine.log.load_log import RowUsage
from launcher.plan.amounts import LedgerRow
from launcher.plan.as_json import plan_json
from launcher.plan.plan import Plan
from launcher.system.json_lines import append_json, read_json_lines
from launcher.system.json_object import JsonObject, parse_document

_SCHEMA = 1


# A row of the ledger: where, planned bytes by kind, seen bytes by kind.
HistoryRow = tuple[str, Mapping[str, int], Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a correction is valid for."""

    plan: str  # plan_key
    engine: str | None  # sha256
    driver: str | None  # versions


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueNote:
    """How a load is to save a plan that failed."""

    saves: Identity | None = None  # the failed plan
    correction: Mapping[str, object] = field(default_factory=dict)
    step: str | None = None  # the correction in words


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    at: str
    name: str
    model_id: str
    identity: Identity
    outcome: str
    load_s: float | None
    cause: str | None = None
    rows: tuple[HistoryRow, ...] = ()
    # By device, the growth of memory in use during the load, as its driver reports it.
    driver_bytes: Mapping[str, int] = field(default_factory=dict)
    resident_bytes: int | None = None
    # Of an attempt to save a plan that had failed: in words, which plan, and how.
    step: str | None = None
    saves: Identity | None = None
    correction: Mapping[str, object] = field(default_factory=dict)


# Settings and places that plans of older histories do not have, as those were started: their keys stay.
_LATER_DEFAULTS = (
    ("lazy_mode", "auto"),
    ("embedding", False),
    ("pooling", None),
    ("op_offload", True),
    ("dialect", "llama.cpp"),
    ("paged_bytes", 0),
)


def plan_key(plan: Plan) -> str:
    """Hash what a plan decides, without the memory that happened to be free."""
    document = plan_json(plan)
    decided = {key: document[key] for key in ("model", "quant", "context", "settings", "placement")}
    for part in ("settings", "placement"):
        fields = decided[part].items()
        decided[part] = {key: value for key, value in fields if (key, value) not in _LATER_DEFAULTS}
    text = json.dumps(decided, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare_rows(ledger: Iterable[LedgerRow], seen: Iterable[RowUsage]) -> tuple[HistoryRow, ...]:
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
    append_json(path, {"schema": _SCHEMA, **asdict(entry)})


def read_history(path: Path) -> tuple[HistoryEntry, ...]:
    """Return all readable entries, oldest first."""
    return tuple(read_json_lines(path, _parse_entry))


def find_correction(entries: Sequence[HistoryEntry], identity: Identity) -> Mapping[str, object] | None:
    """Return the correction that last saved this plan, unless it has failed since."""
    # Only for the same plan, engine and driver: nothing is averaged, no margin is learned.
    for entry in reversed(entries):
        if entry.saves == identity:
            return entry.correction if entry.outcome == "ready" else None
    return None


def parse_rescue(given: JsonObject) -> RescueNote:
    """Return the note in an entry or in options. Raises Malformed."""
    return RescueNote(
        saves=_parse_identity(given.object_at("saves")) if given.has("saves") else None,
        correction=given.mapping("correction") if given.has("correction") else {},
        step=given.optional_text("step"),
    )


def outcome_of(cause: Cause | None) -> str:
    return "ready" if cause is None else "failed"


def _parse_entry(line: bytes) -> HistoryEntry:
    given = parse_document(line, _SCHEMA)
    rescue = parse_rescue(given)
    return HistoryEntry(
        at=given.text("at"),
        name=given.text("name"),
        model_id=given.text("model_id"),
        identity=_parse_identity(given.object_at("identity")),
        outcome=given.text("outcome"),
        load_s=given.number("load_s") if given.has("load_s") else None,
        cause=given.optional_text("cause"),
        rows=tuple(_parse_row(given, row) for row in given.list_at("rows")),
        driver_bytes=given.object_at("driver_bytes").wholes_by_key() if given.has("driver_bytes") else {},
        resident_bytes=given.optional_whole("resident_bytes"),
        step=rescue.step,
        saves=rescue.saves,
        correction=rescue.correction,
    )


def _parse_identity(given: JsonObject) -> Identity:
    return Identity(
        plan=given.text("plan"), engine=given.optional_text("engine"), driver=given.optional_text("driver")
    )


def _parse_row(given: JsonObject, row: object) -> HistoryRow:
    if not isinstance(row, list) or len(row) != 3 or not isinstance(row[0], str):
        raise given.malformed("rows", "has a row that is not where, planned and seen")
    where, planned, seen = row
    return where, JsonObject(planned, "rows").wholes_by_key(), JsonObject(seen, "rows").wholes_by_key()
