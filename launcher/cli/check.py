"""The command `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, MachineOptions
from launcher.cli.options.single import Offline, OptionalRef
from launcher.cli.show.output import Output
from launcher.errors import DoesNotFit, EngineFailed, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from launcher.commands.check import Checked
    from launcher.plan.check.check import Check
    from launcher.plan.forecast.turn import Forecast

# by the stage of loading at which memory runs out
_WHEN = {
    "weights": "while the weights load",
    "kv": "when the KV cache is made",
    "compute": "when the compute buffers are reserved",
    "beside": "when the draft model or the projector loads",
    "cache": "later, when its context checkpoints fill",
}


def check(
    ctx: typer.Context,
    machine_options: MachineOptions,
    engine_options: EngineOptions,
    out: Output,
    ref: OptionalRef = None,
    offline: Offline = False,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=0, max=1 << 24, help="Speeds after so many tokens.", show_default=False),
    ] = None,
    prompt: Annotated[
        int | None,
        typer.Option(
            "--prompt", min=1, max=1 << 24, help="… and of a prompt of so many.", show_default=False
        ),
    ] = None,
) -> None:
    """Say whether a llama-server command line (after --) fits, why not, and the flags that do."""
    from launcher.cli.requests import machine_choice
    from launcher.commands.check import CheckRequest, check_command, check_document
    from launcher.plan.check.pace import Point
    from launcher.plan.plan import Finding

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
        machine=machine_choice(machine_options),
        engine=engine_options.engine,
        at=None if depth is None and prompt is None else Point(depth=depth or 0, prompt=prompt or 512),
    )
    with here_with_progress(out, offline=offline) as here:
        checked = check_command(here, request)
    out.show(check_document(checked), *_render_report(checked))
    if not out.as_json:
        _show_flags(checked, out)
    finding = checked.verdict.finding
    if finding is Finding.DOES_NOT_FIT or not checked.starts:
        raise typer.Exit(DoesNotFit.exit_code)
    if finding is Finding.UNVERIFIED:
        raise typer.Exit(EngineFailed.exit_code)


def _render_report(checked: Checked) -> tuple[RenderableType, ...]:

    from launcher.cli.show.ledger import render_ledger
    from launcher.cli.show.tables import bullets, facts, line
    from launcher.units import format_bytes

    verdict = checked.verdict
    head = facts(
        [
            ("model", f"{verdict.model_id}  {format_bytes(verdict.size_bytes)}"),
            ("source", verdict.source),
            ("context", _context(verdict)),
            ("fits", _answer(checked)),
            *_speed(checked.forecast),
            *(("refused", sentence) for sentence in checked.refused),
        ]
    )
    notes = tuple(line(f"note: {note}") for note in checked.notes)
    return (head, render_ledger(verdict.ledger), bullets(verdict.reasons), *notes)


def _speed(forecast: Forecast | None) -> list[tuple[str, str]]:
    if forecast is None:
        return []
    turn, decode, prefill = forecast.turn, forecast.decode, forecast.prefill
    generated = f"about {decode.mid:.1f} tokens/s ({decode.low:.1f} to {decode.high:.1f})"
    read = f"prompts {prefill.mid:.0f} tokens/s ({prefill.low:.0f} to {prefill.high:.0f})"
    where = f"{turn.prompt_tokens} new tokens after {turn.cached_tokens}"
    return [("speed", f"{generated}; {read}; estimated, {where}")]


def _context(verdict: Check) -> str:
    question = verdict.question
    kinds = f"KV {question.cache_type_k}/{question.cache_type_v}"
    if question.n_parallel == 1:
        return f"{verdict.pool} tokens; {kinds}"
    if question.kv_unified:
        return f"{verdict.pool} tokens, {question.n_parallel} slots share them; {kinds}"
    return f"{question.n_parallel} slots of {verdict.slot_ctx_size} tokens each; {kinds}"


def _answer(checked: Checked) -> str:
    from launcher.cli.show.finding import say_finding
    from launcher.units import format_bytes

    verdict = checked.verdict
    if verdict.refusal is not None:
        return f"no: llama-server would not load it: {verdict.refusal}"
    if not verdict.failures:
        fits = say_finding(verdict.finding, verdict.unverified)
        return fits if checked.starts else f"{fits}, but {checked.engine} would not start with this line"
    first = verdict.failures[0]
    if verdict.fit_unknown is not None:
        short = f"{format_bytes(first.missing_bytes)} short on {first.where} as it stands"
        return f"not verified: {short}, and what --fit makes of it is not known ({verdict.fit_unknown})"
    when = _WHEN[first.stage]
    if first.stage == "cache" and verdict.caches and not verdict.caches.mostly_checkpoints:
        when = "later, when the prompt cache fills"
    return f"no: {first.where} is {format_bytes(first.missing_bytes)} short, {when}"


def _show_flags(checked: Checked, out: Output) -> None:
    """Print flags that start and flags that fit, or what the best placement lacks."""
    from launcher.cli.show.plan import fold_command_line
    from launcher.plan.plan import Plan, Shortfall
    from launcher.units import format_bytes

    instead = checked.instead
    if checked.corrected and checked.verdict.fits:
        out.write(f"\nthese flags start:\n\n{fold_command_line(checked.corrected)}\n")
    if checked.argv:
        unsure = isinstance(instead, Plan) and instead.unverified is not None
        fit = "fit by estimate, which nobody verified" if unsure else "fit"
        out.write(f"\nthese flags {fit}:\n\n{fold_command_line(checked.argv)}\n")
    elif isinstance(instead, Shortfall):
        changes = f"; what would do: {', or '.join(instead.hints)}" if instead.hints else ""
        missing = f"{format_bytes(instead.missing_bytes)} short on {instead.where}"
        out.write(f"\nno placement fits: the best is {missing}{changes}\n")
