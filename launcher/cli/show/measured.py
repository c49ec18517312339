"""Measured speeds: beside their forecast, beside another engine's, beside an earlier measurement."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from launcher.cli.show.tables import facts, grid, line
from launcher.commands.bench.compare import NOISE_RULE, Compared
from launcher.commands.bench.report import Report
from launcher.plan.forecast.benched import Samples, Speed
from launcher.plan.forecast.noise import can_differ
from launcher.plan.forecast.turn import Band


def render_report(report: Report) -> tuple[RenderableType, ...]:
    benched, subject = report.benched, report.benched.subject
    head = facts(
        [("model", f"{subject.model_id}  {subject.quant}"), ("engine", f"llama.cpp {subject.engine}")]
    )
    headers = ("depth", "tokens/s", "llama-bench", "HTTP API", "forecast")
    rows = [row for speed in benched.speeds for row in _rows(speed)]
    note = line(
        "measured here: the median, least and most of the repetitions, in turns; the HTTP API's is what a "
        "client of llama-server sees"
    )
    parts: list[RenderableType] = [head, grid(headers, rows, right=frozenset(headers[2:])), note]
    if report.other is not None:
        other = f"{report.against}, llama.cpp {report.other.subject.engine}"
        parts += _comparison(other, f"llama.cpp {subject.engine} as above", report.engines)
    if report.gate is not None:
        before = report.gate.before.subject
        parts += _comparison("as above", f"on {before.date}, llama.cpp {before.engine}", report.gate.rows)
    return tuple(parts)


def _rows(speed: Speed) -> list[tuple[str, ...]]:
    depth = str(speed.depth)
    return [
        (depth, "prompt", _samples(speed.prompt), _samples(speed.api_prompt), _band(speed.forecast_prompt)),
        ("", "reply", _samples(speed.reply), _samples(speed.api_reply), _band(speed.forecast_reply)),
    ]


def _comparison(now: str, before: str, rows: Sequence[Compared]) -> list[RenderableType]:
    if not rows:
        return [line(f"{now} and {before} have no test in common: the same --depth, --prompt and --reply")]
    table = grid(
        ("depth", "tokens/s", "before", "now", "ratio", ""),
        [
            (
                str(row.depth),
                row.what,
                f"{row.before.median:.1f}",
                f"{row.now.median:.1f}",
                f"{row.ratio:.2f}",
                row.difference.value,
            )
            for row in rows
        ],
        right=frozenset({"before", "now", "ratio"}),
    )
    few = not any(can_differ(len(row.now.rates), len(row.before.rates)) for row in rows)
    rule = f"{NOISE_RULE}: so few can show none, -r 3 can" if few else NOISE_RULE
    return [line(""), line(f"now: {now}; before: {before}"), table, line(rule)]


def _samples(samples: Samples | None) -> str:
    return "" if samples is None else f"{samples.median:.1f} ({samples.low:.1f}-{samples.high:.1f})"


def _band(band: Band | None) -> str:
    return "" if band is None else f"{band.mid:.1f} ({band.low:.1f}-{band.high:.1f})"
