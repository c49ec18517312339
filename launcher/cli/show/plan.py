"""A plan as people read it: its ledger, its reasons, what changes cost, which options were rejected."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.finding import say_finding
from launcher.cli.show.ledger import render_ledger
from launcher.cli.show.tables import bullets, facts, grid
from launcher.cli.show.vllm import render_beside
from launcher.commands.planned import Buy, Planned, api_price
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Alternative
from launcher.plan.search.purchase import describe_tried_changes
from launcher.units import format_bytes


def render_planned(planned: Planned) -> RenderableType:
    """Lay out the plan or the reason why there is none, then the alternatives."""
    parts: list[RenderableType] = []
    choice = planned.choice
    if choice.plan is not None:
        parts.append(_plan(choice.plan))
    elif choice.shortfall is not None:
        parts.append(_shortfall(choice.shortfall))
    if choice.changes:
        parts += [Text(""), Text("what a change costs:"), bullets(price.text for price in choice.changes)]
    if len(choice.options) > 1:
        parts += [
            Text(""),
            Text("plans that no other beats in both quality and speed:"),
            _alternatives(choice.options),
        ]
    if planned.purchases or planned.request.buy is Buy.SIMULATED:
        parts += [Text(""), Text("what would do:"), bullets(_purchases(planned))]
    if (vllm := planned.vllm) is not None:
        parts += [Text(""), Text("on vLLM instead (launcher plan --engine vllm):"), render_beside(vllm)]
    if choice.rejected:
        rows = [
            (rejected.quant, format_bytes(rejected.size_bytes), rejected.reason)
            for rejected in choice.rejected
        ]
        parts += [
            Text(""),
            Text("quants that were not taken:"),
            grid(("quant", "size", "why"), rows, right=frozenset({"size"})),
        ]
    return Group(*parts)


def fold_command_line(argv: Sequence[str], width: int = 76) -> str:
    """Return the command line quoted for a shell and folded between flags, ready to paste."""
    words = [shlex.quote(word) for word in argv]
    lines = [""]
    for index, word in enumerate(words):
        is_flag = word.startswith("-") and not word.lstrip("-")[:1].isdigit()  # -1 is a value
        unit = word + (f" {words[index + 1]}" if index + 1 < len(words) and is_flag else "")
        if is_flag and lines[-1] and len(lines[-1]) + 1 + len(unit) > width:
            lines.append("  " + word)
        else:
            lines[-1] += (" " if lines[-1] else "") + word
    return " \\\n".join(lines)


def _plan(plan: Plan) -> RenderableType:
    parallel = f", {plan.n_parallel} requests share it" if plan.n_parallel > 1 else ""
    head = facts(
        [
            ("model", f"{plan.model_id}  {plan.quant}  {format_bytes(plan.size_bytes)}"),
            ("source", plan.source),
            ("context", f"{plan.ctx_size} tokens{parallel}; KV {plan.cache_type_k}/{plan.cache_type_v}"),
            ("fits", say_finding(plan.finding, plan.unverified)),
        ]
    )
    return Group(head, render_ledger(plan.ledger), bullets(plan.reasons))


def _shortfall(shortfall: Shortfall) -> RenderableType:
    """Lay out how much memory is missing where, in the smallest arrangement that was tried."""
    head = facts(
        [
            ("model", f"{shortfall.model_id}  {shortfall.quant}  {format_bytes(shortfall.size_bytes)}"),
            ("context", f"{shortfall.ctx_size} tokens; KV {shortfall.cache_types}"),
            ("fits", f"no: {shortfall.lack}"),
        ]
    )
    return Group(head, render_ledger(shortfall.ledger), bullets(shortfall.reasons))


def _alternatives(alternatives: Iterable[Alternative]) -> RenderableType:
    """Lay out quants, cache types and batch sizes with their predicted speed."""
    rows = [
        (
            alternative.quant,
            alternative.cache_type,
            str(alternative.ubatch_size),
            str(alternative.ctx_size),
            "-" if alternative.decode_tps is None else f"{alternative.decode_tps:.1f}",
            "-" if alternative.turn_seconds is None else f"{alternative.turn_seconds:.1f} s",
        )
        for alternative in alternatives
    ]
    headers = ("quant", "KV", "ubatch", "context", "tokens/s", "turn")
    return grid(headers, rows, right=frozenset(headers[2:]))


def _purchases(planned: Planned) -> list[str]:
    """List what would have to be bought, if anything, and the price of the API in any case."""
    sentences = [str(purchase) for purchase in planned.purchases]
    if planned.plan is not None:
        fits = say_finding(planned.plan.finding, planned.plan.unverified)
        sentences = [f"it fits ({fits}): nothing has to be bought"]
    elif not sentences:
        tried = describe_tried_changes(planned.machine)
        sentences = [f"none of these is enough: {tried}; another model: launcher recommend"]
    price = api_price(planned)
    return sentences if price is None else [*sentences, price]
