"""Deployments as a card, a table and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from launcher.cli.show.tables import facts, grid, line
from launcher.deployment.log_file import head
from launcher.deployment.record import Deployment, UnreadableRecord, record_json
from launcher.deployment.status import StatusReport
from launcher.engine.log.load_log import (
    LoggedBuffer,
    RowComparison,
    compare_load,
    maps_weights,
    parse_load_log,
)
from launcher.plan.amounts import HOST
from launcher.units import format_bytes

_UNBOUND = 1000  # columns


def render_deployment(deployment: Deployment) -> RenderableType:
    """Lay out where the deployment is, what it allocated, and the next commands to type."""
    return facts(
        [
            ("up", f"{deployment.name} (pid {deployment.pid})"),
            ("url", f"{deployment.url}/v1"),
            ("model", deployment.model_id),
            ("engine", _engine(deployment)),
            ("memory", _memory(deployment)),
            ("ask", f'launcher run {deployment.name} "…"'),
            ("log", f"launcher logs {deployment.name}"),
            ("stop", f"launcher stop {deployment.name}"),
        ]
    )


def deployment_json(deployment: Deployment) -> dict[str, Any]:
    """Return the record for programs, with the load log compared with the plan."""
    return {**record_json(deployment), "load": _compared_load(deployment)}


def render_statuses(reports: Iterable[StatusReport | UnreadableRecord]) -> RenderableType:
    """Lay out one row per deployment with its state, and notes below."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for report in reports:
        if isinstance(report, UnreadableRecord):
            rows.append((report.name, "unreadable", *[""] * 6))
            notes.append(f"{report.name}: {report.problem}")
        else:
            rows.append(_status_row(report))
            notes += _status_notes(report)
    if not rows:
        return Text("nothing runs here: launcher up MODEL")
    headers: tuple[str, ...] = ("name", "state", "url", "up", "idle", "RAM", "GPU", "tok/s")
    if not any(row[6] for row in rows):  # no deployment here has a GPU
        headers, rows = (*headers[:6], headers[7]), [(*row[:6], row[7]) for row in rows]
    return Group(_Statuses(headers, rows), *(line(note) for note in notes))


@dataclass(frozen=True, slots=True)
class _Statuses:
    """A row for each deployment; where the console is too narrow, its URL is below its name."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table(self.headers, self.rows)
        if table.__rich_measure__(console, options.update(width=_UNBOUND)).maximum > options.max_width:
            table = self._table((*self.headers[:2], *self.headers[3:]), [])
            for name, state, url, *rest in self.rows:
                table.add_row(Text("\n").join([line(name), line(url)]), *map(line, (state, *rest)))
        yield table

    @staticmethod
    def _table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
        right = frozenset(headers) - {"name", "state", "url"}
        return grid(headers, rows, right=right, whole=frozenset(headers[1:]), dense=True)


def status_json(report: StatusReport | UnreadableRecord) -> dict[str, Any]:
    """Return one deployment as `ps --json` lists it."""
    if isinstance(report, UnreadableRecord):
        return {"name": report.name, "state": "unreadable", "detail": report.problem, "path": report.path}
    return {
        "state": str(report.status.state),
        "detail": report.status.detail,
        **dataclasses.asdict(report.vitals),
        **deployment_json(report.deployment),
    }


def _status_row(report: StatusReport) -> tuple[str, ...]:
    deployment, vitals = report.deployment, report.vitals
    on_devices = sum(row.used_bytes for row in deployment.ledger if row.where != HOST)
    return (
        deployment.name,
        str(report.status.state),
        f"{deployment.url}/v1",
        _duration(vitals.uptime_s),
        "busy" if vitals.idle_s == 0 else _duration(vitals.idle_s),
        "" if vitals.resident_bytes is None else format_bytes(vitals.resident_bytes),
        "" if not on_devices else format_bytes(on_devices),
        f"{vitals.tokens_per_s:.1f}" if vitals.tokens_per_s else "-",  # 0: nothing since it was last asked
    )


def _status_notes(report: StatusReport) -> list[str]:
    deployment, detail = report.deployment, report.status.detail
    notes = [f"{deployment.name}: {detail}"] if detail else []
    engine = _engine(deployment)
    notes += [f"{deployment.name}: engine {engine}"] if engine else []
    if deployment.restarts:
        times = "once" if deployment.restarts == 1 else f"{deployment.restarts} times"
        why = f"; last: {deployment.failure.sentence}" if deployment.failure is not None else ""
        notes.append(f"{deployment.name}: started again {times}{why}")
    return notes


def _engine(deployment: Deployment) -> str | None:
    """Write which engine was chosen for it, and by whom; None where it is the one that all models get."""
    pin = deployment.options.engine_pin
    return None if pin is None else f"{Path(deployment.engine_path).parent.name}, {pin}"


def _compared_load(deployment: Deployment) -> tuple[RowComparison, ...]:
    """Compare the plan with llama-server's load log; empty where the log does not say."""
    return compare_load(deployment.ledger, _logged_buffers(deployment))


def _logged_buffers(deployment: Deployment) -> tuple[LoggedBuffer, ...]:
    buffers = parse_load_log(head(Path(deployment.log_path)))
    peers = () if deployment.plan is None else deployment.plan.peers
    rows = {peer.buffer_name: f"RPC{number}" for number, peer in enumerate(peers)}
    return tuple(dataclasses.replace(each, name=rows.get(each.name, each.name)) for each in buffers)


def _memory(deployment: Deployment) -> str | None:
    """Write what llama-server says it allocated, row by row; None where the log does not say."""
    rows = ", ".join(
        f"{row.where} {format_bytes(row.logged_bytes)} ({format_bytes(row.planned_bytes)} planned)"
        for row in _compared_load(deployment)
    )
    # the log counts neither the process itself nor weights that are only mapped
    mapped = maps_weights(_logged_buffers(deployment))
    beside = "; the weights in RAM are mapped, beside that" if mapped else ""
    return f"llama-server allocated {rows}{beside}" if rows else None


def _duration(seconds: float | None) -> str:
    """Write a duration in its largest unit: `45s`, `12m`, `3h`, `5d`."""
    if seconds is None:
        return ""
    for unit, step in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= step:
            return f"{seconds / step:.0f}{unit}"
    return f"{seconds:.0f}s"
