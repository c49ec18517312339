"""What `bench` returns: one measurement, another engine's beside it, and how it stands to the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launcher.commands.bench.compare import Compared, Gate, side_by_side
from launcher.commands.bench.rounds import Loaded
from launcher.plan.forecast.benched import Benched, benched_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    loaded: Loaded
    benched: Benched
    other: Benched | None = None
    against: str | None = None  # the other engine as it was named
    gate: Gate | None = None

    @property
    def engines(self) -> tuple[Compared, ...]:
        """The other engine, test by test; `now` is its."""
        return () if self.other is None else tuple(side_by_side(self.other, self.benched))


def report_document(report: Report) -> dict[str, Any]:
    """Return the report as versioned JSON: the measurement, then what it was compared with."""
    gate = report.gate
    return {
        **benched_json(report.benched),
        "against": None
        if report.other is None
        else {**benched_json(report.other), "compared": _rows(report.engines)},
        "baseline": None
        if gate is None
        else {
            "date": gate.before.subject.date,
            "engine": gate.before.subject.engine,
            "slower": gate.is_slower,
            "compared": _rows(gate.rows),
        },
    }


def _rows(rows: tuple[Compared, ...]) -> list[dict[str, Any]]:
    return [
        {
            "depth": row.depth,
            "what": row.what,
            "ratio": row.ratio,
            "now": row.now.median,
            "before": row.before.median,
            "difference": row.difference.name.lower(),
        }
        for row in rows
    ]
