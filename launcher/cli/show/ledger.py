"""The ledger of a plan as a table: what uses how many bytes of which memory."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.cli.show.tables import bar
from launcher.plan.amounts import Amount, Basis, LedgerRow

_MARK = {Basis.EXACT: "", Basis.SIMULATED: "~", Basis.MEASURED: "!", Basis.ESTIMATED: "±"}
_LEGEND = (
    "no mark: exact   ~ simulated by llama.cpp   ! measured   ± estimated, counted at the band's upper end"
)


def render_ledger(rows: Sequence[LedgerRow]) -> RenderableType:
    """Lay out one row per device and one for the host; red where the budget is exceeded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("where", no_wrap=True)
    for header in ("weights", "KV", "compute", "other", "used", "budget"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        other = [row.cache, row.overhead, row.adapters]
        cells = [_amount(row.weights), _amount(row.kv), _amount(row.compute), _sum(other)]
        cells += [_size(row.used_bytes), _size(row.budget_bytes), bar(row.used_bytes, row.budget_bytes)]
        table.add_row(row.where, *cells, style="red" if row.free_bytes < 0 else None)
    return Group(table, Text(_LEGEND, style="dim"))


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
