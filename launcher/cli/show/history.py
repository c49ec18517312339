"""Loads and findings as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import grid
from launcher.commands.doctor import Finding
from launcher.deployment.history import HistoryEntry
from launcher.units import format_bytes


def table(entries: Sequence[HistoryEntry]) -> RenderableType:
    """One line per load; below it what was different from the plan, and why it ended."""
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
        when = entry.at.replace("T", " ").removesuffix("+00:00")
        rows.append((when, entry.name, entry.outcome, load, seen or "?"))
        notes += [f"{when} {entry.name}: {entry.cause}"] if entry.cause else []
        notes += [f"{when} {entry.name}: {entry.step}"] if entry.step else []
    listed = grid(
        ("at (UTC)", "name", "outcome", "load", "weights and buffers: seen of planned"),
        rows,
        right=frozenset({"load"}),
    )
    seen = "seen: by llama-server's own log, a mapped file counted whole; ps shows what is resident"
    return Group(listed, *(Text(note) for note in (*notes, seen)))


def findings(found: Sequence[Finding]) -> RenderableType:
    """What is wrong first, each with its fix."""
    if not found:
        return Text("nothing is wrong")
    lines = []
    for finding in found:
        lines.append(Text(f"{'WRONG' if finding.wrong else 'note '}  {finding.check}: {finding.text}"))
        lines += [Text(f"       {finding.fix}")] if finding.fix else []
    if not any(finding.wrong for finding in found):
        lines.append(Text("nothing is wrong"))
    return Group(*lines)


def _driver(entry: HistoryEntry, where: str) -> str:
    """Planned and seen are llama.cpp's own buffers; what the driver gave out holds its context, too."""
    said = entry.driver_bytes.get(where)
    return "" if said is None else f" (driver: {format_bytes(said)})"


def _size(kinds: Mapping[str, int]) -> str:
    return format_bytes(sum(kinds.values()))
