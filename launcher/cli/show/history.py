"""The last loads as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import Roomy, line
from launcher.deployment.history import HistoryEntry
from launcher.units import format_bytes

_MINUTE = 16  # characters of a time, up to its minute


def render_history(entries: Sequence[HistoryEntry]) -> RenderableType:
    """Lay out one row per load; below, why loads ended and what was done differently from the plan."""
    if not entries:
        return Text("nothing was loaded here yet: launcher up MODEL")
    rows = []
    notes = []
    for entry in entries:
        load = "?" if entry.load_s is None else f"{entry.load_s:.1f} s"
        seen = ", ".join(
            f"{where} {_size(seen)} of {_size(planned)}{_driver(entry, where)}"
            for where, planned, seen in entry.rows
            if seen
        )
        when = entry.at.replace("T", " ")[:_MINUTE]
        rows.append((when, entry.name, entry.outcome, load, seen or "?"))
        notes += [f"{when} {entry.name}: {entry.cause}"] if entry.cause else []
        notes += [f"{when} {entry.name}: {entry.step}"] if entry.step else []
    headers = ("at (UTC)", "name", "outcome", "load", "seen of planned")
    listed = Roomy(headers=headers, rows=rows, first=2, right=frozenset({"load"}))
    legend = (
        "seen, planned: weights and buffers; seen by llama-server's own log, a mapped file counted whole; "
        "ps shows what is resident"
    )
    return Group(listed, *(line(note) for note in (*notes, legend)))


def _driver(entry: HistoryEntry, where: str) -> str:
    # planned and seen bytes are llama.cpp's own buffers; the driver's count includes its context
    n_bytes = entry.driver_bytes.get(where)
    return "" if n_bytes is None else f" (driver: {format_bytes(n_bytes)})"


def _size(bytes_by_kind: Mapping[str, int]) -> str:
    return format_bytes(sum(bytes_by_kind.values()))
