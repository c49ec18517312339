"""The command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output

_SLOWER = 1  # as `diff` exits where it finds a difference


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
    reply: Annotated[int, typer.Option("--reply", min=2, max=1 << 16, help="Tokens of a reply.")] = 64,
    repetitions: Annotated[
        int, typer.Option("-r", "--repetitions", min=1, max=50, help="Times; each loads the model anew.")
    ] = 3,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="ENGINE",
            help="Measure another engine in turns with it: a path, a name, bNNNNN.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Exit with 1 if it is slower than when it was last measured."),
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="FILE", help="Append a row for each depth, as CSV.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure a planned model, by llama-bench and through the HTTP API, beside what was forecast.

    Plans then show what was measured, and forecasts of models like it are scaled by it.
    """
    from launcher.cli.requests import plan_request
    from launcher.cli.show.measured import render_report
    from launcher.commands.bench.bench import BenchRequest
    from launcher.commands.bench.bench import bench as bench_model
    from launcher.commands.bench.export import export as export_rows
    from launcher.commands.bench.report import report_document

    request = BenchRequest(
        plan=plan_request(ref, plan_options, engine_options, ctx.obj),
        depths=tuple(sorted(set(depth or (0,)))),
        prompt=prompt,
        reply=reply,
        repetitions=repetitions,
        against=against,
        baseline=baseline,
    )
    with here_with_progress(out, offline=plan_options.offline) as here:
        report = bench_model(here, request)
    if export is not None:
        export_rows(report.planned, report.benched, export)
    out.show(report_document(report), *render_report(report))
    if report.gate is not None and report.gate.is_slower:
        raise typer.Exit(_SLOWER)
