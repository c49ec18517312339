"""What a search of the Hub found."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from launcher.cli.show.tables import bullets, grid
from launcher.commands.search import SearchedRepo
from launcher.units import format_bytes, format_count


def render_searched(found: Sequence[SearchedRepo]) -> RenderableType:
    """Lay out one row per repo; what could not be listed is said below."""
    rows = [
        (
            row.name,
            format_count(row.downloads),
            _quants(row),
            f"{row.fits.label}, {format_bytes(row.fits.size_bytes)}" if row.fits else "no",
        )
        for row in found
    ]
    headers = ("launcher up REPO:QUANT", "downloads", "quants", "fits, by size alone")
    notes = [f"{row.name}: {row.trouble}" for row in found if row.trouble]
    notes += [f"{row.name} asks for its licence to be accepted on its page" for row in found if row.is_gated]
    table = grid(headers, rows, right=frozenset({"downloads"}))
    return Group(table, bullets(notes, apart=False)) if notes else table


def document(found: Sequence[SearchedRepo]) -> list[dict[str, object]]:
    """Return what was found as `--json` prints it."""
    return [
        {
            "repo": row.name,
            "downloads": row.downloads,
            "gated": row.is_gated,
            "quants": [{"quant": group.label, "size_bytes": group.size_bytes} for group in row.quants],
            "fits_by_size": row.fits.label if row.fits else None,
            "trouble": row.trouble,
        }
        for row in found
    ]


def _quants(row: SearchedRepo) -> str:
    if not row.quants:
        return "-"
    smallest, largest = row.quants[0], row.quants[-1]
    if len(row.quants) == 1:
        return smallest.label
    return f"{len(row.quants)}: {smallest.label} to {largest.label}"
