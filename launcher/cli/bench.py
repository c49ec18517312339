"""The command `bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from launcher.commands.bench import Benched, Samples
    from launcher.plan.forecast.turn import Band


def bench(
    ctx: typer.Context,
    ref: Ref,
    plan_options: PlanOptions,
    engine_options: EngineOptions,
    out: Output,
    depth: Annotated[
        list[int] | None,
        typer.Option("--depth", min=0, max=1 << 24, help="After so many tokens; repeat it [default: 0]."),
    ] = None,
    prompt: Annotated[int, typer.Option("--prompt", min=1, max=1 << 20, help="Tokens of a prompt.")] = 512,
    reply: Annotated[int, typer.Option("--reply", min=1, max=1 << 16, help="Tokens of a reply.")] = 64,
    repetitions: Annotated[int, typer.Option("-r", "--repetitions", min=1, max=50, help="Times.")] = 3,
) -> None:
    """Measure a planned model with llama-bench, beside what was forecast for it."""
    from launcher.cli.requests import plan_request
    from launcher.commands.bench import BenchRequest, bench_document
    from launcher.commands.bench import bench as bench_model

    request = BenchRequest(
        plan=plan_request(ref, plan_options, engine_options, ctx.obj),
        depths=tuple(sorted(set(depth or (0,)))),
        prompt=prompt,
        reply=reply,
        repetitions=repetitions,
    )
    with here_with_progress(out, offline=plan_options.offline) as here:
        benched = bench_model(here, request)
    out.show(bench_document(benched), *_render(benched))


def _render(benched: Benched) -> tuple[RenderableType, ...]:
    from launcher.cli.show.tables import facts, grid, line

    head = facts(
        [("model", f"{benched.model_id}  {benched.quant}"), ("engine", f"llama.cpp {benched.engine}")]
    )
    headers = ("depth", "prompt/s", "forecast", "tokens/s", "forecast ")
    rows = [
        (
            str(speed.depth),
            _samples(speed.prompt),
            _band(speed.forecast_prompt),
            _samples(speed.reply),
            _band(speed.forecast_reply),
        )
        for speed in benched.speeds
    ]
    note = line("measured here: the median, least and most of the repetitions; forecasts are estimates")
    return (head, grid(headers, rows, right=frozenset(headers)), note)


def _samples(samples: Samples | None) -> str:
    return "" if samples is None else f"{samples.median:.1f} ({samples.low:.1f}-{samples.high:.1f})"


def _band(band: Band | None) -> str:
    return "" if band is None else f"{band.mid:.1f} ({band.low:.1f}-{band.high:.1f})"
