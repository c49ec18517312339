"""A plan as tables and bars: its ledger, its reasons, what changes cost, what was not taken."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launcher.cli.show.tables import bar, facts, grid, reasons
from launcher.commands.planned import Planned, api_price
from launcher.plan.amounts import Amount, Basis, LedgerRow
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Alternative
from launcher.plan.search.purchase import describe_tried_changes
from launcher.units import format_bytes

_MARK = {Basis.EXACT: "", Basis.SIMULATED: "~", Basis.MEASURED: "!", Basis.ESTIMATED: "±"}
LEGEND = (
    "no mark: exact   ~ simulated by llama.cpp   ! measured   ± estimated, counted at the band's upper end"
)


def planned(value: Planned) -> RenderableType:
    """A plan with the rejected options, or why nothing fits."""
    parts: list[RenderableType] = []
    choice = value.choice
    if choice.plan is not None:
        parts.append(plan(choice.plan))
    elif choice.shortfall is not None:
        parts.append(shortfall(choice.shortfall))
    if choice.changes:
        parts += [Text(""), Text("what a change costs:"), reasons(price.text for price in choice.changes)]
    if len(choice.options) > 1:
        parts += [
            Text(""),
            Text("plans that no other beats in both quality and speed:"),
            options(choice.options),
        ]
    if value.request.buy:
        parts += [Text(""), Text("what would do:"), reasons(_ways(value))]
    if choice.rejected:
        rows = [(one.quant, format_bytes(one.size_bytes), one.reason) for one in choice.rejected]
        parts += [
            Text(""),
            Text("quants that were not taken:"),
            grid(("quant", "size", "why"), rows, right=frozenset({"size"})),
        ]
    return Group(*parts)


def _ways(value: Planned) -> list[str]:
    """What would have to be bought, or that nothing would do; what the API costs, in any case."""
    ways = [str(one) for one in value.purchases]
    if value.plan is not None:
        ways = ["it fits: nothing has to be bought"]
    elif not ways:
        ways = [f"nothing that was tried: {describe_tried_changes(value.machine)}"]
    price = api_price(value)
    return ways if price is None else [*ways, price]


def ledger(rows: Sequence[LedgerRow]) -> RenderableType:
    """One line per device and for the host: what is used by what, of which budget."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("where", no_wrap=True)
    for header in ("weights", "KV", "compute", "other", "used", "budget"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        other = [row.cache, row.overhead, row.adapters]
        cells = [amount(row.weights), amount(row.kv), amount(row.compute), amounts(other)]
        cells += [_size(row.used_bytes), _size(row.budget_bytes), bar(row.used_bytes, row.budget_bytes)]
        table.add_row(row.where, *cells, style="red" if row.free_bytes < 0 else None)
    return Group(table, Text(LEGEND, style="dim"))


def amount(value: Amount) -> str:
    """`1.2G`, marked with where it comes from."""
    return _MARK[value.basis] + _size(value.n_bytes) if value.n_bytes or value.band_bytes else "-"


def amounts(values: Sequence[Amount]) -> str:
    """Several amounts in one cell, marked with the weakest basis among them."""
    order = (Basis.EXACT, Basis.MEASURED, Basis.SIMULATED, Basis.ESTIMATED)
    present = [value for value in values if value.n_bytes or value.band_bytes]
    weakest = max((value.basis for value in present), key=order.index, default=Basis.EXACT)
    return amount(Amount(n_bytes=sum(value.n_bytes for value in present), basis=weakest))


def _size(n_bytes: int) -> str:
    """`18.2G`, `512M`: three digits, so that a ledger fits in 80 columns."""
    unit, step = next(
        ((u, s) for u, s in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20)) if abs(n_bytes) >= s),
        ("K", 1 << 10),
    )
    value = n_bytes / step
    return f"{value:.0f}{unit}" if abs(value) >= 100 else f"{value:.1f}{unit}"


def plan(value: Plan) -> RenderableType:
    """What was decided, and why."""
    parallel = f", {value.n_parallel} requests share it" if value.n_parallel > 1 else ""
    head = facts(
        [
            ("model", f"{value.model_id}  {value.quant}  {format_bytes(value.size_bytes)}"),
            ("source", value.source),
            ("context", f"{value.ctx_size} tokens{parallel}; KV {value.cache_type_k}/{value.cache_type_v}"),
            ("fits", "yes"),
        ]
    )
    return Group(head, ledger(value.ledger), reasons(value.reasons))


def shortfall(value: Shortfall) -> RenderableType:
    """What is missing where, in the smallest arrangement that was tried."""
    head = facts(
        [
            ("model", f"{value.model_id}  {value.quant}  {format_bytes(value.size_bytes)}"),
            ("context", f"{value.ctx_size} tokens; KV {value.cache_types}"),
            ("fits", f"no: {value.lack}"),
        ]
    )
    return Group(head, ledger(value.ledger), reasons(value.reasons))


def options(found: Iterable[Alternative]) -> RenderableType:
    """Quants, caches and batches with their predicted speed."""
    rows = [
        (
            one.quant,
            one.cache_type,
            str(one.ubatch_size),
            str(one.ctx_size),
            "-" if one.decode_tps is None else f"{one.decode_tps:.1f}",
            "-" if one.turn_seconds is None else f"{one.turn_seconds:.1f} s",
        )
        for one in found
    ]
    headers = ("quant", "KV", "ubatch", "context", "tokens/s", "turn")
    return grid(headers, rows, right=frozenset(headers[2:]))


def command_line(argv: Sequence[str], width: int = 76) -> str:
    """The engine's command line, folded between flags, ready to paste."""
    words = [shlex.quote(word) for word in argv]
    lines = [""]
    for index, word in enumerate(words):
        starts_flag = word.startswith("-") and not word.lstrip("-")[:1].isdigit()
        unit = word + (f" {words[index + 1]}" if index + 1 < len(words) and starts_flag else "")
        if starts_flag and lines[-1] and len(lines[-1]) + 1 + len(unit) > width:
            lines.append("  " + word)
        else:
            lines[-1] += (" " if lines[-1] else "") + word
    return " \\\n".join(lines)
