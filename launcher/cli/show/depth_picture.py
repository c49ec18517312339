"""Machines as a picture: how fast each generates, by the tokens that are cached already."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from launcher.cli.show import svg
from launcher.commands.compare_machines import Compared
from launcher.units import one_line

_WIDTH, _HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT = 760, 420, 60, 370, 60, 560
_LETTERS = 24  # of a machine's name
_APART = 16  # of two names
_TICKS = 5
_FIRST_STEP = 1024  # depths are on a scale of doublings from here on


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    name: str
    points: tuple[tuple[int, float], ...]  # (depth, tokens/s), by depth


def draw_comparison(compared: Sequence[Compared], title: str) -> str | None:
    """Return speed against depth as SVG, a curve for each machine that holds the model; None if none does."""
    curves = [Curve(name=one.machine, points=one.decode_by_depth) for one in compared if one.decode_by_depth]
    return draw_curves(curves, title) if curves else None


def draw_curves(curves: Sequence[Curve], title: str) -> str:
    most = max(rate for curve in curves for _, rate in curve.points)
    deepest = max(depth for curve in curves for depth, _ in curve.points)
    scale = _Scale(most=_rounded_up(most), deepest=deepest)
    parts = [
        svg.words(20, 34, one_line(title, 84), kind="bold"),
        *_axes(scale),
        *(part for number, curve in enumerate(curves) for part in _curve(curve, scale, number)),
        *_names(curves, scale),
    ]
    return svg.document(_WIDTH, _HEIGHT, parts, title)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    most: float
    deepest: int

    def x(self, depth: float) -> float:
        whole = math.log2(1 + max(self.deepest, 1) / _FIRST_STEP)
        return _LEFT + (_RIGHT - _LEFT) * math.log2(1 + depth / _FIRST_STEP) / whole

    def y(self, rate: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * rate / self.most


def _rounded_up(most: float) -> float:
    step = 10.0 ** math.floor(math.log10(most))
    return math.ceil(most / step) * step


def _axes(scale: _Scale) -> Iterator[str]:
    for tick in range(_TICKS + 1):
        rate = scale.most * tick / _TICKS
        yield svg.line(_LEFT, scale.y(rate), _RIGHT, scale.y(rate), "grid")
        yield svg.words(_LEFT - 8, scale.y(rate) + 4, f"{rate:g}", kind="dim", end=True)
    depth, last = 0, -100.0
    while depth <= scale.deepest:
        if scale.x(depth) - last > 44:
            last = scale.x(depth)
            yield svg.words(last - 8, _BOTTOM + 20, _thousands(depth), kind="dim")
        depth = max(depth * 2, _FIRST_STEP)
    yield svg.words(_LEFT, _BOTTOM + 40, "tokens/s, after so many tokens; estimates", kind="dim")


def _thousands(depth: int) -> str:
    return f"{depth // 1024}k" if depth >= 1024 else str(depth)


def _curve(curve: Curve, scale: _Scale, number: int) -> Iterator[str]:
    places = [(scale.x(depth), scale.y(rate)) for depth, rate in curve.points]
    for (x1, y1), (x2, y2) in pairwise(places):
        yield svg.line(x1, y1, x2, y2, svg.series(number))
    yield svg.dot(*places[-1], 3, svg.series(number))


def _names(curves: Sequence[Curve], scale: _Scale) -> Iterator[str]:
    """Write each name beside the end of its curve, no two over each other."""
    ends = sorted((scale.y(curve.points[-1][1]), number) for number, curve in enumerate(curves))
    free = float(_TOP)
    for index, (y, number) in enumerate(ends):
        below = (len(ends) - index - 1) * _APART  # for those that follow
        place = max(min(y, _BOTTOM - below), free)
        free = place + _APART
        depth, rate = curves[number].points[-1]
        x = scale.x(depth)
        yield svg.line(x + 4, y, _RIGHT + 12, place, "grid")
        text = f"{one_line(curves[number].name, _LETTERS)}  {rate:.1f}"
        yield svg.words(_RIGHT + 16, place + 4, text, kind=svg.series(number))
