"""Several machines side by side, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from launcher.cli.show.tables import grid, line
from launcher.commands.compare_machines import Compared
from launcher.plan.forecast.turn import Band

_HEADERS = ("machine", "quant", "GPUs", "tokens/s", "prompt/s", "turn")
_SCALE = 32  # characters


def render_comparison(compared: Sequence[Compared]) -> RenderableType:
    """Lay out a row for each machine, then bars of the speed of generation."""
    rows = [_row(one) for one in compared]
    parts: list[RenderableType] = [
        grid(_HEADERS, rows, right=frozenset(_HEADERS[3:]), whole=frozenset({"quant"}))
    ]
    found = [(one.machine, plan.forecast) for one in compared if (plan := one.planned.plan) and plan.forecast]
    if len(found) > 1:
        most = max(forecast.decode.high for _, forecast in found)
        width = max(len(name) for name, _ in found)
        parts += [
            line(f"{name:<{width}}  {_span(forecast.decode, most)}  {forecast.decode.mid:.1f} tokens/s")
            for name, forecast in found
        ]
    turns = {str(forecast.turn) for _, forecast in found}
    parts += [line(f"a turn: {turn}; all speeds are estimates with their band") for turn in sorted(turns)]
    return Group(*parts)


def _row(one: Compared) -> tuple[str, ...]:
    plan = one.planned.plan
    if plan is None:
        return (one.machine, "no", one.lack or "", "", "", "")
    gpus = f"{len(plan.placement.devices)} of {len(one.planned.machine.devices)}"
    if plan.forecast is None:
        return (one.machine, plan.quant, gpus, "", "", "")
    speeds = plan.forecast
    return (
        one.machine,
        plan.quant,
        gpus,
        _band(speeds.decode),
        _band(speeds.prefill),
        f"{speeds.turn_seconds.mid:.0f} s",
    )


def _band(band: Band) -> str:
    digits = 1 if band.high < 20 else 0
    return f"{band.low:.{digits}f}-{band.high:.{digits}f}"


def _span(band: Band, most: float) -> str:
    """Draw a band on a scale from 0 to `most`: `   ---#----   `."""
    low, mid, high = (
        min(round(value / most * _SCALE), _SCALE - 1) for value in (band.low, band.mid, band.high)
    )
    marks = ("#" if at == mid else "-" if low <= at <= high else " " for at in range(_SCALE))
    return "".join(marks)
