"""The command that examines a pasted llama-server command line: check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from launcher.cli.here import working
from launcher.cli.options import EngineOptions, MachineOptions, Offline, OptionalRef, unfolded
from launcher.cli.show.output import Output
from launcher.errors import DoesNotFit, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from launcher.commands.check import Checked
    from launcher.plan.check.check import Check

_WHEN = {
    "weights": "while the weights load",
    "kv": "when the KV cache is made",
    "compute": "when the compute buffers are reserved",
    "beside": "when the draft model or the projector loads",
    "cache": "later, when the prompt cache fills",
}


def register(app: typer.Typer) -> None:
    """Hang the command on the app."""
    app.command(epilog="launcher check -- llama-server -m model.gguf -ngl 99")(unfolded(check))


def check(
    ctx: typer.Context,
    machine: MachineOptions,
    engine: EngineOptions,
    out: Output,
    ref: OptionalRef = None,
    offline: Offline = False,
) -> None:
    """Say whether a llama-server command line (after --) fits, why not, and the flags that do."""
    from launcher.commands.check import CheckRequest, check_command, check_document
    from launcher.commands.probe import MachineChoice

    words: tuple[str, ...] = ctx.obj
    if not words and ref is not None and "llama" in ref and " " in ref:
        words, ref = (ref,), None  # the whole line in quotes
    if not words:
        raise UsageError(
            "launcher check needs a llama-server command line",
            hint="launcher check -- llama-server -m model.gguf -ngl 99",
        )
    request = CheckRequest(
        words=words,
        ref=ref,
        machine=MachineChoice(name=machine.machine, gpus=tuple(machine.gpu or ()), ram_bytes=machine.ram),
        engine=engine.engine,
    )
    with working(out, offline=offline) as here:
        checked = check_command(here, request)
    out.show(check_document(checked), *_report(checked))
    if not out.as_json:
        _show_flags(checked, out)
    if not (checked.verdict.fits and checked.starts):
        raise typer.Exit(DoesNotFit.exit_code)


def _report(checked: Checked) -> tuple[RenderableType, ...]:
    from rich.text import Text

    from launcher.cli.show import plan, tables
    from launcher.units import format_bytes

    verdict = checked.verdict
    head = tables.facts(
        [
            ("model", f"{verdict.model_id}  {format_bytes(verdict.size_bytes)}"),
            ("source", verdict.source),
            ("context", _context(verdict)),
            ("fits", _answer(checked)),
            *(("refused", sentence) for sentence in checked.refused),
        ]
    )
    notes = tuple(Text(f"note: {note}") for note in checked.notes)
    return (head, plan.ledger(verdict.ledger), tables.reasons(verdict.reasons), *notes)


def _context(verdict: Check) -> str:
    question = verdict.question
    kinds = f"KV {question.cache_type_k}/{question.cache_type_v}"
    if question.n_parallel == 1:
        return f"{verdict.pool} tokens; {kinds}"
    if question.kv_unified:
        return f"{verdict.pool} tokens, {question.n_parallel} slots share them; {kinds}"
    return f"{question.n_parallel} slots of {verdict.slot_ctx_size} tokens each; {kinds}"


def _answer(checked: Checked) -> str:
    from launcher.units import format_bytes

    verdict = checked.verdict
    if verdict.refusal is not None:
        return f"no: llama-server would not load it: {verdict.refusal}"
    if not verdict.failures:
        return "yes" if checked.starts else f"yes, but {checked.engine} would not start with this line"
    first = verdict.failures[0]
    return f"no: {first.where} is {format_bytes(first.missing_bytes)} short, {_WHEN[first.stage]}"


def _show_flags(checked: Checked, out: Output) -> None:
    """What fits instead, or that nothing does."""
    from launcher.cli.show import plan
    from launcher.plan.plan import Shortfall
    from launcher.units import format_bytes

    instead = checked.instead
    if checked.corrected and checked.verdict.fits:
        out.data(f"\nthese flags start:\n\n{plan.command_line(checked.corrected)}\n")
    if checked.argv:
        out.data(f"\nthese flags fit:\n\n{plan.command_line(checked.argv)}\n")
    elif isinstance(instead, Shortfall):
        changes = f"; what would do: {', or '.join(instead.hints)}" if instead.hints else ""
        out.data(
            f"\nno placement fits: the best is {format_bytes(instead.missing_bytes)} short on {instead.where}{changes}\n"
        )
