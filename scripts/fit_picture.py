"""Draw predicted over measured speed of every row: by depth, by quant, by the processors that compute.

A tilt would show as dots that climb or fall along a row of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from launcher.cli.show import svg

if TYPE_CHECKING:
    from scripts.fit_forecast import Error
    from tests.plan.forecast.measured import Measured

_WIDTH, _PANEL, _LEFT, _RIGHT = 760, 230, 60, 740
_MOST = 3.0  # times off, up and down
_LINES = (1 / 2, 1 / 1.5, 1.0, 1.5, 2.0)


def picture(found: Sequence[Error]) -> str:
    """Return the file: generation's three panels, then those of prompts."""
    parts: list[str] = []
    top = 20
    for prompt, name in ((False, "generation"), (True, "prompts")):
        rows = [error for error in found if error.prompt is prompt]
        for what, key in (("depth", _depth), ("quant", _quant), ("processors", _processors)):
            parts += _panel(rows, f"{name}: predicted / measured, by {what}", key, top)
            top += _PANEL
    return svg.document(_WIDTH, top, parts, "predicted over measured speed, each rig from the others")


def _panel(
    rows: Sequence[Error], title: str, key: Callable[[Measured], tuple[int, str]], top: int
) -> Iterator[str]:
    groups = sorted({key(error.one) for error in rows})
    yield svg.words(_LEFT, top + 14, title, kind="bold")

    def height(ratio: float) -> float:
        part = math.log(min(max(ratio, 1 / _MOST), _MOST)) / math.log(_MOST)
        return top + 110 - part * 85

    for ratio in _LINES:
        yield svg.line(_LEFT, height(ratio), _RIGHT, height(ratio), "line" if ratio == 1 else "grid")
        yield svg.words(_LEFT - 6, height(ratio) + 4, f"{ratio:.2g}", kind="dim", end=True)
    wide = (_RIGHT - _LEFT) / len(groups)
    for number, group in enumerate(groups):
        here = [error for error in rows if key(error.one) == group]
        for index, error in enumerate(here):
            x = _LEFT + wide * (number + (index + 1) / (len(here) + 1))
            yield svg.dot(x, height(math.exp(error.log)), 3, svg.series(number))
        y = top + 200 + 14 * (number % 2)  # long names: every other one lower
        yield svg.words(_LEFT + wide * number + 4, y, f"{group[1]} ({len(here)})", kind="dim")


def _depth(one: Measured) -> tuple[int, str]:
    step = 0 if one.depth < 1024 else 1 + int(math.log2(one.depth / 1024) / 2)
    return step, ("under 1k", "1k to 4k", "4k to 16k", "16k to 64k", "64k on")[min(step, 4)]


def _quant(one: Measured) -> tuple[int, str]:
    name = one.row["quant"].upper()
    kinds = ("MXFP4", "IQ", "Q2", "Q3", "Q4", "Q5", "Q6", "Q8", "F16")
    return next(((at, kind) for at, kind in enumerate(kinds) if kind in name), (len(kinds), "other"))


def _processors(one: Measured) -> tuple[int, str]:
    names = sorted({stage.processor.family.value for stage in one.stages if stage.read_bytes})
    return len(names), " + ".join(names).replace("before Ampere", "old")
