"""Tables, lists and bars that are readable at 80 columns, without colour, and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from launcher.units import one_line

_BAR_WIDTH = 12
_UNBOUND = 10_000  # columns: how wide a table would like to be
_MAX_CELL = 4096  # characters: a name of a model file can be longer


def line(text: str) -> Text:
    """Lay out a sentence, in which may be anything, on a line of its own."""
    return Text(one_line(text, _MAX_CELL))  # Text: no brackets of a name are read as rich's markup


def facts(rows: Iterable[tuple[str, str | None]]) -> Table:
    """Lay out names and values in two columns; rows without a value are left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, line(value))
    return table


def grid(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: frozenset[str] = frozenset(),
    whole: frozenset[str] = frozenset(),
    dense: bool = False,
) -> Table:
    """Lay out a table with headers. Columns in `right` are aligned right, columns in `whole` never folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=dense)
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right else "left"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=header in whole)
    for row in rows:
        table.add_row(*(line(cell) for cell in row))
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Roomy:
    """A table whose first columns are never folded: where they leave no room, the others are below them."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    first: int = 1  # how many columns
    right: frozenset[str] = frozenset()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = grid(self.headers, self.rows, right=self.right)
        if table.__rich_measure__(console, options.update(width=_UNBOUND)).maximum <= options.max_width:
            yield table
            return
        for row in self.rows:
            yield line("  ".join(row[: self.first]))
            yield Padding(line("  ".join(row[self.first :])), (0, 0, 0, 4), expand=False)


def bar(used: int, budget: int, width: int = _BAR_WIDTH) -> str:
    """Draw a fill level in ASCII: `#####.........`; what exceeds the budget ends in `!`."""
    if budget <= 0:  # a reserve may be larger than the memory
        return "!" * width
    filled = round(width * min(used, budget) / budget)
    return "#" * filled + ("!" if used > budget else "." * (width - filled))


def bullets(sentences: Iterable[str], *, apart: bool = True) -> RenderableType:
    """Lay out sentences as a list with dashes, `apart` after an empty line; a `grid` ends with one."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for sentence in sentences:
        table.add_row("-", line(sentence))
    return Padding(table, (int(apart), 0, 0, 0), expand=False)
