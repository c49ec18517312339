"""The memories that a plan fills, as bars of weights, cache, compute and other. Pure, but for rich's Text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from launcher.machine.machine import format_device_ids
from launcher.plan.amounts import HOST, Amount, LedgerRow
from launcher.units import GIB

KINDS = ("weights", "cache", "compute", "other")
_ALIKE = 0.1  # of the budget: devices whose fill levels differ by less share a bar
_MAKERS = re.compile(r"^(NVIDIA|AMD|Intel\(R\)|Intel|Apple)\s+((GeForce|Radeon|Arc\(TM\))\s+)?")
_NARROWEST, _WIDEST = 8, 36  # cells


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBar:
    """One memory, or several that are filled alike, of which the fullest is shown."""

    label: str  # `CUDA0-4 (5 x H200)`, `RAM`
    parts: tuple[int, int, int, int]  # bytes of KINDS, each at the top of its band
    budget_bytes: int
    n_alike: int = 1

    @property
    def used_bytes(self) -> int:
        return sum(self.parts)

    @property
    def amount(self) -> str:
        of = f"{self.used_bytes / GIB:.1f} of {max(self.budget_bytes, 0) / GIB:.1f} GiB"
        return of if self.n_alike == 1 else f"at most {of} each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """The signs that a bar is drawn with: parts are told apart without colour."""

    kinds: tuple[str, str, str, str]
    free: str


BLOCKS = Ink(kinds=("█", "▓", "▒", "░"), free="·")
ASCII = Ink(kinds=("#", "=", "+", "-"), free=".")
_STYLES = ("blue", "green", "yellow", "magenta")


def memory_bars(ledger: Sequence[LedgerRow], *, alike: bool = True) -> list[MemoryBar]:
    """Return a bar for each memory; devices in the host's memory are in its bar.

    With `alike`, devices of one kind that are filled alike share a bar.
    """
    pool = [row for row in ledger if row.where == HOST or row.shared_bytes]
    own = [row for row in ledger if row not in pool]
    groups = _alike(own) if alike else [[row] for row in own]
    bars = [_device_bar(group) for group in groups]
    return [*bars, _pool_bar(pool)] if pool else bars


def card_name(name: str) -> str:
    """Return a card's name without its maker's: `NVIDIA GeForce RTX 3090` is `RTX 3090`."""
    return _MAKERS.sub("", name)


def render_bars(bars: Sequence[MemoryBar], width: int, ink: Ink) -> list[Text]:
    """Lay out the bars below each other, and a line that says what the signs mean."""
    label = max(len(bar.label) for bar in bars)
    amount = max(len(bar.amount) for bar in bars)
    cells = max(_NARROWEST, min(_WIDEST, width - label - amount - 5))
    lines = [
        Text.assemble(f"{bar.label:<{label}}  ", *_cells(bar, cells, ink), f"  {bar.amount:>{amount}}")
        for bar in bars
    ]
    legend = [(f"{ink.kinds[index]} {kind}  ", _STYLES[index]) for index, kind in enumerate(KINDS)]
    legend.append((f"{ink.free} free", "dim"))
    indent = min(label + 2, width - sum(len(text) for text, _ in legend))
    return [*lines, Text.assemble(" " * max(indent, 0), *legend)]


def divide_cells(parts: Sequence[int], budget: int, cells: int) -> list[int]:
    """Return how many of a bar's cells each part fills; over budget they fill all of it."""
    scale = max(budget, sum(parts), 1)
    ends = [round(sum(parts[: index + 1]) * cells / scale) for index in range(len(parts))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _cells(bar: MemoryBar, cells: int, ink: Ink) -> Iterable[tuple[str, str]]:
    counts = divide_cells(bar.parts, bar.budget_bytes, cells)
    for count, sign, style in zip(counts, ink.kinds, _STYLES, strict=True):
        yield sign * count, style
    if bar.used_bytes > bar.budget_bytes:
        yield "!", "bold red"
    else:
        yield ink.free * (cells - sum(counts)) + " ", "dim"


def _alike(rows: Sequence[LedgerRow]) -> Iterable[list[LedgerRow]]:
    for _, same in groupby(rows, key=lambda row: (row.name, row.budget_bytes)):
        group: list[LedgerRow] = []
        for row in same:
            near = [row.used_bytes, *(other.used_bytes for other in group)]
            if max(near) - min(near) > _ALIKE * max(row.budget_bytes, 1):
                yield group
                group = []
            group.append(row)
        yield group


def _device_bar(rows: Sequence[LedgerRow]) -> MemoryBar:
    fullest = max(rows, key=lambda row: row.used_bytes)
    name = card_name(fullest.name)
    where = format_device_ids(row.where for row in rows)
    return MemoryBar(
        label=f"{where} ({len(rows)} x {name})" if len(rows) > 1 else f"{where} ({name})",
        parts=_parts([fullest]),
        budget_bytes=fullest.budget_bytes,
        n_alike=len(rows),
    )


def _pool_bar(rows: Sequence[LedgerRow]) -> MemoryBar:
    devices = [row for row in rows if row.where != HOST]
    parts = _parts(rows)
    # the host's row is last, and its budget is without what the devices take
    budget = sum(parts) + rows[-1].free_bytes
    if not devices:
        return MemoryBar(label="RAM", parts=parts, budget_bytes=budget)
    names = format_device_ids(row.where for row in devices)
    return MemoryBar(label=f"{names} + RAM, one memory", parts=parts, budget_bytes=budget)


def _parts(rows: Sequence[LedgerRow]) -> tuple[int, int, int, int]:
    return (
        sum(_top(row.weights) for row in rows),
        sum(_top(row.kv) + _top(row.cache) for row in rows),
        sum(_top(row.compute) for row in rows),
        sum(_top(row.overhead) + _top(row.adapters) for row in rows),
    )


def _top(amount: Amount) -> int:
    return amount.n_bytes + amount.band_bytes
