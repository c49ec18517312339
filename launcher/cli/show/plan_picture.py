"""A plan as a picture: each memory as a bar, and speed of the plans by quality, the choice marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.cli.show import svg
from launcher.cli.show.finding import say_finding
from launcher.cli.show.memory_bars import KINDS, MemoryBar, memory_bars
from launcher.cli.show.short_plan import say_speed
from launcher.commands.planned import Planned
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Alternative
from launcher.units import format_bytes, one_line

_WIDTH, _MARGIN, _ROW, _LABELS, _AMOUNTS = 760, 20, 26, 210, 170
_MOST_LETTERS = 84  # of a line
_LEFT, _RIGHT = _MARGIN + _LABELS, _WIDTH - _MARGIN - _AMOUNTS


def draw_plan(planned: Planned) -> str | None:
    """Return the picture as SVG; None if there is neither a plan nor a ledger of what is missing."""
    choice = planned.choice
    outcome = choice.plan or choice.shortfall
    if outcome is None:
        return None
    bars = memory_bars(outcome.ledger, alike=False)
    top = 96
    parts = [*_head(outcome), *_bars(bars, top)]
    bottom = top + len(bars) * _ROW + 20
    rows = [option for option in choice.options if option.decode_tps]
    if choice.plan is not None and len(rows) > 1:
        parts += _speeds(rows, choice.plan, bottom + 40)
        bottom += 40 + len(rows) * _ROW + 30
    return svg.document(_WIDTH, bottom + _MARGIN, parts, f"plan of {outcome.model_id}")


def _head(outcome: Plan | Shortfall) -> Iterator[str]:
    size = format_bytes(outcome.size_bytes)
    model = f"{outcome.model_id}  {outcome.quant}  {size}; context {outcome.ctx_size} tokens"
    yield svg.words(_MARGIN, 34, one_line(model, _MOST_LETTERS), kind="bold")
    if isinstance(outcome, Plan):
        fits = one_line(say_finding(outcome.finding, outcome.unverified), _MOST_LETTERS)
        yield svg.words(_MARGIN, 56, f"fits: {fits}")
        if outcome.forecast is not None:
            yield svg.words(_MARGIN, 76, say_speed(outcome.forecast, reads=outcome.all_outputs))
    else:
        yield svg.words(_MARGIN, 56, f"fits: no: {outcome.lack}")


def _bars(bars: Sequence[MemoryBar], top: float) -> Iterator[str]:
    for index, bar in enumerate(bars):
        y = top + index * _ROW
        yield svg.words(_LEFT - 10, y + 14, bar.label, end=True)
        yield svg.words(_WIDTH - _MARGIN, y + 14, bar.amount, end=True)
        yield svg.rectangle(_LEFT, y, _RIGHT - _LEFT, 18, "free")
        scale = (_RIGHT - _LEFT) / max(bar.budget_bytes, bar.used_bytes, 1)
        x = float(_LEFT)
        for kind, part in zip(KINDS, bar.parts, strict=True):
            yield svg.rectangle(x, y, part * scale, 18, kind)
            x += part * scale
        if bar.used_bytes > bar.budget_bytes:  # what does not fit
            edge = _LEFT + max(bar.budget_bytes, 0) * scale
            yield svg.rectangle(edge, y + 15, x - edge, 3, "over")
    x = float(_LEFT)
    for kind in (*KINDS, "free"):
        y = top + len(bars) * _ROW + 4
        yield svg.rectangle(x, y, 10, 10, kind)
        yield svg.words(x + 15, y + 10, kind, kind="dim")
        x += 82


def _speeds(options: Sequence[Alternative], plan: Plan, top: float) -> Iterator[str]:
    """Draw a row for each plan that no other beats, best quality first: how fast it generates."""
    yield svg.words(_MARGIN, top, "best quality first; tokens/s", kind="dim")
    most = max(option.decode_tps or 0 for option in options)
    for index, option in enumerate(options):
        y = top + 24 + index * _ROW
        speed = option.decode_tps or 0
        x = _LEFT + (_RIGHT - _LEFT) * speed / most
        chosen = option.quant == plan.quant and option.cache_type == plan.cache_type_k
        yield svg.words(_LEFT - 10, y + 4, f"{option.quant} KV {option.cache_type}", end=True)
        yield svg.line(_LEFT, y, x, y)
        yield svg.dot(x, y, 7 if chosen else 5, "chosen" if chosen else "dot")
        yield svg.words(_WIDTH - _MARGIN, y + 4, f"{speed:.1f}{'  chosen' if chosen else ''}", end=True)
