"""Deployments as cards, tables and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.tables import facts, grid
from launcher.engine import record
from launcher.engine.deployments import look
from launcher.engine.record import Deployment, Unreadable


def document(deployment: Deployment) -> dict[str, Any]:
    """The deployment as `up --json` prints it."""
    return record.document(deployment)


def card(deployment: Deployment) -> RenderableType:
    """Where it is, and the next things to type."""
    return facts(
        [
            ("up", f"{deployment.name} (pid {deployment.pid})"),
            ("url", f"{deployment.url}/v1"),
            ("model", deployment.model_id),
            ("ask", f'launcher run {deployment.name} "…"'),
            ("log", f"launcher logs {deployment.name}"),
            ("stop", f"launcher stop {deployment.name}"),
        ]
    )


def entry_document(entry: Deployment | Unreadable) -> dict[str, Any]:
    """One line of `ps` for programs."""
    if isinstance(entry, Unreadable):
        return {"name": entry.name, "state": "unreadable", "detail": entry.problem, "path": entry.path}
    status = look(entry)
    return {"state": str(status.state), "detail": status.detail, **document(entry)}


def table(entries: Iterable[Deployment | Unreadable]) -> RenderableType:
    """One line per deployment: what it is right now."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for entry in entries:
        if isinstance(entry, Unreadable):
            rows.append((entry.name, "unreadable", "", ""))
            notes.append(f"{entry.name}: {entry.problem}")
            continue
        status = look(entry)
        pid = "" if entry.pid is None else str(entry.pid)
        rows.append((entry.name, str(status.state), f"{entry.url}/v1", pid))
        notes += [f"{entry.name}: {status.detail}"] if status.detail else []
    if not rows:
        return Text("nothing runs here: launcher up MODEL")
    listed = grid(("name", "state", "url", "pid"), rows, right=frozenset({"pid"}))
    return Group(listed, *(Text(note) for note in notes))
