"""A plan at a glance: the verdict, what runs, how fast, where the bytes lie, why, and what to type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from launcher.cli.show.finding import say_finding
from launcher.cli.show.memory_bars import Ink, memory_bars, render_bars
from launcher.cli.show.tables import facts
from launcher.cli.show.vllm import say_vllm
from launcher.commands.planned import Planned, ProjectorChoice
from launcher.machine.machine import format_device_ids
from launcher.machine.probe.devices import UNLISTED
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.forecast.turn import Band, Forecast
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.choice import Alternative, Choice
from launcher.plan.workload import Prefer
from launcher.units import format_bytes

_LEAST_GAIN = 0.9  # of a turn's time: what saves less is not called faster
_MOST_PURCHASES = 3
_LABEL = 8  # letters of the longest label, `would do`
_MORE = "--explain: every number, choice and flag, with its reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextCommands:
    start: str  # starts what was planned
    recommend: str  # models that fit this machine
    running: str | None = None  # what holds memory of it


def render_short(planned: Planned, commands: NextCommands, ink: Ink) -> RenderableType:
    """Lay out a plan, or the reason why there is none, in about twelve lines."""
    choice = planned.choice
    if choice.plan is not None:
        finding = say_finding(choice.plan.finding, choice.plan.unverified)
        if planned.projector is not None and planned.projector.left_out:
            finding = f"{finding}, without images"
        return _sheet(choice.plan, finding, _about_plan(planned, choice.plan), ink)
    if choice.shortfall is not None:
        return _sheet(
            choice.shortfall,
            f"no: {choice.shortfall.lack}",
            _about_shortfall(planned, commands.recommend),
            ink,
        )
    return Group()


def _sheet(
    outcome: Plan | Shortfall, finding: str, last: Iterable[tuple[str, str]], ink: Ink
) -> RenderableType:
    head = facts((f"{label:<{_LABEL}}", text) for label, text in [("fits", finding), *_facts(outcome)])
    bars: list[RenderableType] = [Text(""), _Bars(outcome.ledger, ink)] if outcome.ledger else []
    return Group(head, *bars, Text(""), facts((f"{label:<{_LABEL}}", text) for label, text in last))


def lines_to_type(planned: Planned, commands: NextCommands) -> Iterable[str]:
    """Yield the last lines: commands, which are never folded, so that they can be copied."""
    plan = planned.choice.plan
    rows = [("more", _MORE)]
    if commands.running is not None:
        rows.insert(0, ("running", f"{commands.running}: launcher ps"))
    if plan is not None:
        rows.insert(0, ("start", commands.start))
        if planned.engine is None:
            rows.append(("surer", "launcher engine install: llama.cpp itself then says if it fits"))
    yield from (f"{label:<{_LABEL}}  {text}" for label, text in rows)


@dataclass(frozen=True, slots=True)
class _Bars:
    """The bars of a ledger, as wide as the console."""

    ledger: Sequence[LedgerRow]
    ink: Ink

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from render_bars(memory_bars(self.ledger), min(options.max_width, 100), self.ink)


def _facts(outcome: Plan | Shortfall) -> Iterable[tuple[str, str]]:
    size = format_bytes(outcome.size_bytes)
    yield "model", f"{outcome.model_id}  {outcome.quant}  {size}; context {outcome.ctx_size} tokens"
    if isinstance(outcome, Plan) and outcome.forecast is not None:
        yield "speed", say_speed(outcome.forecast, reads=outcome.all_outputs)


def say_speed(forecast: Forecast, *, reads: bool = False) -> str:
    """Say a forecast in a line, each number with its band; of a server that only `reads`, for embeddings."""
    if reads:
        return f"{say_band(forecast.prefill)} tokens/s read"
    turn = forecast.turn
    seconds = say_band(forecast.turn_seconds)
    measured = "" if forecast.measured is None else f"; measured on {forecast.measured}"
    return (
        f"{say_band(forecast.decode)} tokens/s; "
        f"{turn.prompt_tokens} tokens read, {turn.reply_tokens} answered: {seconds} s{measured}"
    )


def say_band(band: Band) -> str:
    """Write a prediction and, in brackets, its band: `39 (16-98)`."""
    digits = 1 if band.mid < 10 else 0
    return f"{band.mid:.{digits}f} ({band.low:.{digits}f}-{band.high:.{digits}f})"


def _about_plan(planned: Planned, plan: Plan) -> Iterable[tuple[str, str]]:
    yield "why", "; ".join(filter(None, (_why_quant(planned, plan), _why_there(planned, plan))))
    if planned.projector is not None:
        yield "images", _images(planned.projector)
    if planned.tuned:
        yield "tuned", planned.tuned
    if faster := _faster(planned.choice, plan):
        yield "faster", faster
    if better := _better(planned, plan):
        yield "better", better
    if (vllm := planned.vllm) is not None and vllm.fits:
        yield "vllm", say_vllm(vllm)


def _why_quant(planned: Planned, plan: Plan) -> str:
    rejected = planned.choice.rejected
    n_fit = 1 + sum(each.fits for each in rejected)
    if n_fit == 1:
        return f"the only one of {1 + len(rejected)} quants that fits" if rejected else ""
    if planned.request.workload.prefer is Prefer.SPEED:
        return f"the fastest of {n_fit} quants that fit"
    if any(each.fits for each in _better_quants(planned, plan)):
        return f"of {n_fit} quants that fit, the better ones are slow"
    return f"the best of {n_fit} quants that fit"


def _why_no_gpu(planned: Planned) -> str:
    if planned.request.limits.gpus == ():
        return "as --gpus none says"
    if planned.machine.devices:
        return "no GPU has room"
    unlisted = (note for note in planned.machine.notes if note.startswith(UNLISTED))
    return next(unlisted, "there is no GPU")


def _why_there(planned: Planned, plan: Plan) -> str:
    placement = plan.placement
    paged = f", {format_bytes(placement.paged_bytes)} from disk" if placement.paged_bytes else ""
    if not placement.devices:
        return f"all in RAM{paged}: {_why_no_gpu(planned)}"
    names = format_device_ids(placement.devices)
    on_host = next((row.weights.n_bytes for row in plan.ledger if row.where == HOST), 0)
    experts = placement.host_expert_blocks or placement.host_expert_parts
    if placement.n_gpu_layers > placement.n_block and not experts:
        idle = [device.id for device in planned.machine.devices if device.id not in placement.devices]
        return f"all blocks on {names}" + (f", {format_device_ids(idle)} not needed" if idle else "")
    kind = "experts" if experts else "blocks"
    return f"{format_bytes(on_host)} in RAM{paged}, for {names} cannot hold all {kind}"


def _images(projector: ProjectorChoice) -> str:
    """Say if the model sees, and with what."""
    size = "" if projector.size_bytes is None else f", {format_bytes(projector.size_bytes)}"
    if projector.left_out:
        return f"none: {projector.name}{size} {projector.left_out}"
    return f"with {projector.name}{size}; --no-vision leaves it out"


def _faster(choice: Choice, plan: Plan) -> str | None:
    """Name what makes a turn clearly shorter: drafts, another quant or another setting."""
    if plan.forecast is None:
        return None
    drafts = choice.speculation
    if drafts is not None and drafts.pays and not drafts.used and drafts.decode_tps is not None:
        return f"drafts by the model itself, about {drafts.decode_tps:.0f} tokens/s: -- {drafts.flags}"
    limit = plan.forecast.turn_seconds.mid * _LEAST_GAIN
    quicker = [each for each in choice.options if each.turn_seconds and each.turn_seconds <= limit]
    if quicker:
        best = min(quicker, key=lambda each: each.turn_seconds or 0)
        flags = f"--quant {best.quant}" if best.quant != plan.quant else best.flags
        return f"{best.quant}, {_say_speed_of(best)}: {flags}"
    return None


def _better_quants(planned: Planned, plan: Plan) -> list[Alternative]:
    """Return the quants of better quality that were not taken, the best first."""
    names = [candidate.quant for candidate in planned.target.candidates]  # best first
    above = names[: names.index(plan.quant)] if plan.quant in names else []
    return [each for each in planned.choice.rejected if each.quant in above]


def _better(planned: Planned, plan: Plan) -> str | None:
    """Name the next better quant: how fast it would be, or what it lacks."""
    better = _better_quants(planned, plan)
    if fitting := [each for each in better if each.fits]:
        return f"{fitting[-1].quant}, {_say_speed_of(fitting[-1])}: --quant {fitting[-1].quant}"
    lacking = [each for each in better if each.missing_bytes is not None]
    if not lacking:
        return None
    nearest = min(lacking, key=lambda each: each.missing_bytes or 0)
    place = "of RAM" if nearest.where == HOST else f"on {nearest.where}"
    return f"{nearest.quant} lacks {format_bytes(nearest.missing_bytes)} {place}"


def _say_speed_of(found: Alternative) -> str:
    if found.decode_tps is None or found.turn_seconds is None:
        return "of unknown speed"
    digits = 1 if found.decode_tps < 10 else 0
    return f"about {found.decode_tps:.{digits}f} tokens/s and {found.turn_seconds:.0f} s"


def _about_shortfall(planned: Planned, recommend: str) -> Iterable[tuple[str, str]]:
    if (vllm := planned.vllm) is not None and vllm.fits:
        yield "vllm", say_vllm(vllm)
    label = "would do"
    for purchase in planned.purchases[:_MOST_PURCHASES]:
        speed = "" if purchase.decode_tps is None else f", about {purchase.decode_tps:.1f} tokens/s"
        context = "" if purchase.ctx_size == _ctx(planned) else f" at {purchase.ctx_size} tokens"
        yield label, f"{purchase.what}: {purchase.quant}{context}{speed}"
        label = ""
    yield label, f"another model: {recommend}"


def _ctx(planned: Planned) -> int:
    return planned.choice.shortfall.ctx_size if planned.choice.shortfall else 0
