"""The ledger of a plan as a table: what uses how many bytes of which memory."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.cli.show.tables import bar
from launcher.plan.amounts import HOST, Amount, Basis, LedgerRow

_MARK = {Basis.EXACT: "", Basis.SIMULATED: "~", Basis.MEASURED: "!", Basis.ESTIMATED: "±"}
_LEGEND = (
    "no mark: exact   ~ simulated by llama.cpp   ! measured   ± estimated, counted at the band's upper end"
)


def render_ledger(rows: Sequence[LedgerRow]) -> RenderableType:
    """Lay out one row per memory, a device's or the host's; red where the budget is exceeded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("where", no_wrap=True)
    for header in ("weights", "KV", "compute", "other", "used", "budget"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    pool = [row for row in rows if row.where == HOST or row.shared_bytes]
    for row in rows:
        if row not in pool:
            _add_row(table, row.where, [row])
    if pool:
        _add_row(table, "+".join(row.where for row in pool), pool)
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
    cells = [_amount(amounts[0]) if len(amounts) == 1 else _sum(amounts) for amounts in kinds]
    table.add_row(where, *cells, _size(used), _size(budget), bar(used, budget), style="red" if over else None)


def _describe_pool(rows: Sequence[LedgerRow]) -> str:
    """Say how the host and the devices in its memory divide it."""
    *devices, host = rows
    parts = [
        f"{row.where} takes {_size(row.used_bytes)} of it and may take {_size(row.budget_bytes)}"
        for row in devices
    ]
    return f"one memory: {', '.join(parts)}; the host takes {_size(host.used_bytes)}"


def _amount(amount: Amount) -> str:
    """Write an amount with the mark of its basis: `~1.2G`."""
    return _MARK[amount.basis] + _size(amount.n_bytes) if amount.n_bytes or amount.band_bytes else "-"


def _sum(amounts: Sequence[Amount]) -> str:
    """Write the sum of several amounts, marked with the least certain basis among them."""
    order = (Basis.EXACT, Basis.MEASURED, Basis.SIMULATED, Basis.ESTIMATED)
    present = [amount for amount in amounts if amount.n_bytes or amount.band_bytes]
    basis = max((amount.basis for amount in present), key=order.index, default=Basis.EXACT)
    return _amount(Amount(n_bytes=sum(amount.n_bytes for amount in present), basis=basis))


def _size(n_bytes: int) -> str:
    # three digits, `18.2G` or `512M`, so that a ledger fits in 80 columns
    unit, step = next(
        ((u, s) for u, s in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20)) if abs(n_bytes) >= s),
        ("K", 1 << 10),
    )
    value = n_bytes / step
    return f"{value:.0f}{unit}" if abs(value) >= 100 else f"{value:.1f}{unit}"
