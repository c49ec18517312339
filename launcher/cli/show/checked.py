"""The verdict on a llama-server line, for check."""

from __future__ import annotations

from rich.console import RenderableType

from launcher.cli.show.finding import say_finding
from launcher.cli.show.ledger import render_ledger
from launcher.cli.show.output import Output
from launcher.cli.show.plan import fold_command_line
from launcher.cli.show.tables import bullets, facts, line
from launcher.commands.check import Checked
from launcher.plan.check.check import Check
from launcher.plan.forecast.turn import Forecast
from launcher.plan.plan import Plan, Shortfall
from launcher.units import format_bytes, format_rate

# by the stage of loading at which memory runs out
_WHEN = {
    "weights": "while the weights load",
    "kv": "when the KV cache is made",
    "compute": "when the compute buffers are reserved",
    "beside": "when the draft model or the projector loads",
    "cache": "later, when its context checkpoints fill",
}


def render_checked(checked: Checked) -> tuple[RenderableType, ...]:
    """Lay out the verdict on a line of one model."""
    verdict = checked.verdict
    head = facts(
        [
            ("model", f"{verdict.model_id}  {format_bytes(verdict.size_bytes)}"),
            ("source", verdict.source),
            ("context", _context(verdict)),
            ("fits", say_answer(checked)),
            *_speed(checked.forecast, reads=verdict.question.all_outputs),
            *(("refused", sentence) for sentence in checked.refused),
        ]
    )
    notes = tuple(line(f"note: {note}") for note in checked.notes)
    return (head, render_ledger(verdict.ledger), bullets(verdict.reasons), *notes)


def _speed(forecast: Forecast | None, *, reads: bool) -> list[tuple[str, str]]:
    if forecast is None:
        return []
    turn, decode, prefill = forecast.turn, forecast.decode, forecast.prefill
    generated = f"about {decode.mid:.1f} tokens/s ({decode.low:.1f} to {decode.high:.1f})"
    low, mid, high = (format_rate(rate) for rate in (prefill.low, prefill.mid, prefill.high))
    read = f"prompts {mid} tokens/s ({low} to {high})"
    where = f"{turn.prompt_tokens} new tokens after {turn.cached_tokens}"
    said = read if reads else f"{generated}; {read}"  # a server of embeddings generates nothing
    return [("speed", f"{said}; estimated, {where}")]


def _context(verdict: Check) -> str:
    question = verdict.question
    kinds = f"KV {question.cache_type_k}/{question.cache_type_v}"
    if question.n_parallel == 1:
        return f"{verdict.pool} tokens; {kinds}"
    if question.kv_unified:
        return f"{verdict.pool} tokens, {question.n_parallel} slots share them; {kinds}"
    return f"{question.n_parallel} slots of {verdict.slot_ctx_size} tokens each; {kinds}"


def say_answer(checked: Checked) -> str:
    """Say whether a line fits, and what fails first."""
    verdict = checked.verdict
    if verdict.refusal is not None:
        return f"no: llama-server would not load it: {verdict.refusal}"
    if not verdict.failures:
        fits = say_finding(verdict.finding, verdict.unverified)
        fits += f", {format_bytes(verdict.paged_bytes)} from disk" if verdict.paged_bytes else ""
        return fits if checked.starts else f"{fits}, but {checked.engine} would not start with this line"
    first = verdict.failures[0]
    if verdict.fit_unknown is not None:
        short = f"{format_bytes(first.missing_bytes)} short on {first.where} as it stands"
        return f"not verified: {short}, and what --fit makes of it is not known ({verdict.fit_unknown})"
    when = _WHEN[first.stage]
    if first.stage == "cache" and verdict.caches and not verdict.caches.mostly_checkpoints:
        when = "later, when the prompt cache fills"
    return f"no: {first.where} is {format_bytes(first.missing_bytes)} short, {when}"


def show_flags(checked: Checked, out: Output) -> None:
    """Print flags that start and flags that fit, or what the best placement lacks."""
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
