"""The ledger of a plan as a table: what uses how many bytes of which memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.cli.show.tables import bar
from launcher.plan.amounts import HOST, MOST_CERTAIN_FIRST, Amount, Basis, LedgerRow

_MARK = {Basis.EXACT: "", Basis.SIMULATED: "~", Basis.MEASURED: "!", Basis.ESTIMATED: "±"}
_LEGEND = (
    "no mark: exact   ~ simulated by llama.cpp   ! measured   ± estimated, counted at the band's upper end"
)


def render_ledger(rows: Sequence[LedgerRow]) -> RenderableType:
    """Lay out one row per memory, a device's or the host's; red where the budget is exceeded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("where", overflow="fold")  # the one column that may take two lines
    for header in ("weights", "KV", "compute", "other", "used", "budget"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    pool = [row for row in rows if row.where == HOST or row.shared_bytes]
    for row in rows:
        if row not in pool:
            _add_row(table, row.where, [row])
    if pool:
        _add_row(table, " + ".join(row.where for row in pool), pool)
    parts: list[RenderableType] = [table]
    if len(pool) > 1:
        parts.append(Text(_describe_pool(pool)))
    return Group(*parts, Text(_LEGEND, style="dim"))


def _add_row(table: Table, where: str, rows: Sequence[LedgerRow]) -> None:
    """Add a row for one memory, the sum of the ledger's rows in it."""
    other = [amount for row in rows for amount in (row.cache, row.overhead, row.adapters)]
    kinds = ([row.weights for row in rows], [row.kv for row in rows], [row.compute for row in rows], other)
    used = sum(row.used_bytes for row in rows)
    budget = used + rows[-1].free_bytes  # the host's row is last, and without what the devices take
    over = any(row.free_bytes < 0 for row in rows)
    *sizes, total = divide_digits([sum(map(_top, amounts)) for amounts in kinds])
    cells = [
        _mark(amounts) + size if any(map(_top, amounts)) else "-"
        for amounts, size in zip(kinds, sizes, strict=True)
    ]
    budget_size = _in_unit(budget, _unit(budget))
    table.add_row(where, *cells, total, budget_size, bar(used, budget), style="red" if over else None)


def _describe_pool(rows: Sequence[LedgerRow]) -> str:
    """Say how the host and the devices in its memory divide it."""
    devices = rows[:-1]
    *taken, host_taken, _ = divide_digits([row.used_bytes for row in rows])
    parts = [
        f"{row.where} takes {size} of it{_describe_own(row)} and may take {_in_unit(row.budget_bytes, _GIB)}"
        for row, size in zip(devices, taken, strict=True)
    ]
    return f"one memory: {', '.join(parts)}; the host takes {host_taken}"


def _describe_own(row: LedgerRow) -> str:
    own = row.used_bytes - row.shared_bytes
    return f" ({_in_unit(own, _unit(own))} in its carve-out, which is none of the host's)" if own else ""


def divide_digits(parts: Sequence[int]) -> list[str]:
    """Write sizes and, last, their sum, in the sum's unit, such that the sizes add up as they are written."""
    unit = _unit(sum(parts))
    exact = [part * 10 / unit.n_bytes for part in parts]
    tenths = [math.floor(value) for value in exact]
    missing = round(sum(exact)) - sum(tenths)
    # the largest remainders are rounded up
    by_remainder = sorted(range(len(parts)), key=lambda index: exact[index] - tenths[index], reverse=True)
    for index in by_remainder[:missing]:
        tenths[index] += 1
    return [f"{value / 10:.1f}{unit.letter}" for value in (*tenths, sum(tenths))]


@dataclass(frozen=True, slots=True)
class _Unit:
    letter: str
    n_bytes: int


_GIB, _MIB = _Unit("G", 1 << 30), _Unit("M", 1 << 20)


def _unit(n_bytes: int) -> _Unit:
    return _GIB if abs(n_bytes) >= _GIB.n_bytes else _MIB


def _in_unit(n_bytes: int, unit: _Unit) -> str:
    return f"{n_bytes / unit.n_bytes:.1f}{unit.letter}"


def _top(amount: Amount) -> int:
    return amount.n_bytes + amount.band_bytes


def _mark(amounts: Sequence[Amount]) -> str:
    """Return the mark of the least certain basis among amounts."""
    present = [amount.basis for amount in amounts if _top(amount)]
    return _MARK[max(present, key=MOST_CERTAIN_FIRST.index, default=Basis.EXACT)]
