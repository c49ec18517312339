"""Recommended models as a table, of which each row's first column is what `launcher up` takes."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType

from launcher.cli.show.tables import bullets, grid, line
from launcher.commands.recommend import (
    BENCHMARKS,
    COMFORTABLE_TPS,
    READERS,
    KnownModel,
    Recommendation,
    Recommended,
)
from launcher.plan.forecast.turn import Band
from launcher.units import format_bytes

_MOST_NAMED = 4
_SHORT = {
    "GPQA Diamond": "GPQA",
    "SWE-bench Verified": "SWE",
    "LiveCodeBench v6": "LCB",
    "MTEB multilingual": "MTEB",
}


def render_recommendation(found: Recommendation) -> Iterable[RenderableType]:
    """Lay out the table, where its figures are from, and what is not in it."""
    if not found.rows:
        yield line(f"none of the {len(found.too_large)} models for {found.purpose} fits {found.machine}")
        return
    yield line(f"for {found.purpose} on {found.machine}; estimated: launcher plan REF simulates it")
    reads = found.purpose in READERS
    sources = list(dict.fromkeys(row.score.source for row in found.rows if row.score))
    rows = [
        (
            row.ref,
            _quality(row, sources),
            f"{row.found.ctx_size // 1024}K",
            _speed(row.found.forecast.prefill if reads else row.found.forecast.decode),
            format_bytes(row.found.size_bytes),
        )
        for row in found.rows
    ]
    speed = "read/s" if reads else "tokens/s"
    headers = ("launcher up …", "quality", "ctx", speed, "download")
    yield grid(headers, rows, right=frozenset(headers[2:]), whole=frozenset(headers))
    yield bullets([*_sources(sources), *_notes(found)], apart=False)


def _quality(row: Recommended, sources: list[str]) -> str:
    if row.score is None:
        return "-"
    return f"{_short(row.score.benchmark)} {row.score.value:g} [{sources.index(row.score.source) + 1}]"


def _short(benchmark: str) -> str:
    return _SHORT.get(benchmark, benchmark)


def _speed(band: Band) -> str:
    return f"{band.low:.0f}-{band.high:.0f}" if band.low >= 1 else f"{band.low:.1f}-{band.high:.1f}"


def _sources(sources: list[str]) -> Iterable[str]:
    for number, source in enumerate(sources, start=1):
        yield f"[{number}] {source}"


def _notes(found: Recommendation) -> Iterable[str]:
    names = BENCHMARKS[found.purpose]
    if names:
        order = ", then by ".join(names)
        yield f"ordered by {order}, published for the unquantised models; - is no figure known"
    if any(row.is_slow for row in found.rows):
        yield f"last are those with fewer than {COMFORTABLE_TPS:g} tokens/s"
    if found.too_large:
        named = ", ".join(found.too_large[:_MOST_NAMED])
        more = len(found.too_large) - _MOST_NAMED
        yield f"too large for it: {named}" + (f" and {more} more" if more > 0 else "")


def render_known(known: Iterable[KnownModel]) -> RenderableType:
    """Lay out one row per profile, with the best quant that fits by estimate."""
    rows = [
        (
            row.profile.name,
            ", ".join(row.profile.purposes),
            f"{row.profile.context.max // 1024}K",
            row.found.quant if row.found else "no",
            format_bytes(row.found.size_bytes) if row.found else "-",
        )
        for row in known
    ]
    headers = ("model", "for", "ctx", "fits (estimated)", "size")
    return grid(headers, rows, right=frozenset({"ctx", "size"}), whole=frozenset(headers) - {"for"})
