"""Deployments as cards, tables and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import facts, grid
from launcher.deployment import record
from launcher.deployment.log_file import head
from launcher.deployment.record import Deployment, UnreadableRecord
from launcher.deployment.status import StatusReport as Looked
from launcher.deployment.status import ask_status
from launcher.engine.log.load_log import (
    LoggedBuffer,
    RowComparison,
    compare_load,
    maps_weights,
    parse_load_log,
)
from launcher.units import format_bytes


def document(deployment: Deployment) -> dict[str, Any]:
    """The deployment as `up --json` prints it, with what its load log says beside what was planned."""
    return {**record.record_json(deployment), "load": compared(deployment)}


def compared(deployment: Deployment) -> tuple[RowComparison, ...]:
    """Planned against what llama-server said while loading; empty where the log does not say."""
    return compare_load(deployment.ledger, _said(deployment))


def _said(deployment: Deployment) -> tuple[LoggedBuffer, ...]:
    return parse_load_log(head(Path(deployment.log_path)))


def _memory(deployment: Deployment) -> str | None:
    """What llama-server allocated, by its own log: neither its process nor weights that it only maps."""
    told = ", ".join(
        f"{row.where} {format_bytes(row.logged_bytes)} ({format_bytes(row.planned_bytes)} planned)"
        for row in compared(deployment)
    )
    beside = "; the weights in RAM are mapped, beside that" if maps_weights(_said(deployment)) else ""
    return f"llama-server allocated {told}{beside}" if told else None


def card(deployment: Deployment) -> RenderableType:
    """Where it is, and the next things to type."""
    return facts(
        [
            ("up", f"{deployment.name} (pid {deployment.pid})"),
            ("url", f"{deployment.url}/v1"),
            ("model", deployment.model_id),
            ("memory", _memory(deployment)),
            ("ask", f'launcher run {deployment.name} "…"'),
            ("log", f"launcher logs {deployment.name}"),
            ("stop", f"launcher stop {deployment.name}"),
        ]
    )


def look_at(entry: Deployment | UnreadableRecord) -> Looked | UnreadableRecord:
    """Once for all that is shown: llama-server tells its speed since it was last asked."""
    return entry if isinstance(entry, UnreadableRecord) else ask_status(entry)


def entry_document(entry: Looked | UnreadableRecord) -> dict[str, Any]:
    """One line of `ps` for programs."""
    if isinstance(entry, UnreadableRecord):
        return {"name": entry.name, "state": "unreadable", "detail": entry.problem, "path": entry.path}
    return {
        "state": str(entry.status.state),
        "detail": entry.status.detail,
        **dataclasses.asdict(entry.vitals),
        **document(entry.deployment),
    }


def table(entries: Iterable[Looked | UnreadableRecord]) -> RenderableType:
    """One line per deployment: what it is right now."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for seen in entries:
        if isinstance(seen, UnreadableRecord):
            rows.append((seen.name, "unreadable", "", "", "", ""))
            notes.append(f"{seen.name}: {seen.problem}")
            continue
        entry, status, now = seen.deployment, seen.status, seen.vitals
        speed = "" if now.tokens_per_s is None else f"{now.tokens_per_s:.1f}"
        memory = "" if now.resident_bytes is None else format_bytes(now.resident_bytes)
        rows.append(
            (entry.name, str(status.state), f"{entry.url}/v1", _duration(now.uptime_s), memory, speed)
        )
        notes += [f"{entry.name}: {status.detail}"] if status.detail else []
        if entry.restarts:
            why = f"; last: {entry.failure.sentence}" if entry.failure is not None else ""
            notes.append(f"{entry.name}: started again {_times(entry.restarts)}{why}")
    if not rows:
        return Text("nothing runs here: launcher up MODEL")
    headers = ("name", "state", "url", "up", "resident", "tok/s")
    listed = grid(headers, rows, right=frozenset(headers[3:]), whole=frozenset(headers[1:]))
    return Group(listed, *(Text(note) for note in notes))


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _duration(seconds: float | None) -> str:
    """`45s`, `12m`, `3h`, `5d`: how long it is up, in the largest unit."""
    if seconds is None:
        return ""
    for unit, step in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= step:
            return f"{seconds / step:.0f}{unit}"
    return f"{seconds:.0f}s"
