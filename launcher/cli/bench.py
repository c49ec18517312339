"""The command `bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.complete import complete_ref
from launcher.cli.options.configured import is_typed
from launcher.cli.options.measuring import BenchOptions, TurnOptions
from launcher.cli.show.output import Output

if TYPE_CHECKING:
    from launcher.commands.bench.llama_bench import Tests
    from launcher.commands.bench.report import Report
    from launcher.commands.here import Here
    from launcher.commands.planned import PlanRequest
    from launcher.deployment.record import Deployment

_SLOWER = 1  # as `diff` exits where it finds a difference
_Word = Annotated[
    str,
    typer.Argument(
        metavar="NAME|REF",
        help="A deployment that runs, or a model to load.",
        show_default=False,
        autocompletion=complete_ref,
    ),
]


def bench(
    ctx: typer.Context,
    word: _Word,
    turn: TurnOptions,
    options: BenchOptions,
    plan_options: PlanOptions,
    engine_options: EngineOptions,
    out: Output,
) -> None:
    """Measure a planned model, by llama-bench and through the HTTP API, beside what was forecast.

    Plans then show what was measured, and forecasts of models like it are scaled by it. A deployment that
    runs is measured as it is, through its API alone; with options of a plan or an engine the word is a REF.
    """
    from launcher.cli.requests import plan_request
    from launcher.cli.show.measured import render_report
    from launcher.commands.bench.export import export
    from launcher.commands.bench.report import report_document

    plans = any(is_typed(ctx, bundle) for bundle in (PlanOptions, EngineOptions))
    plans = plans or bool(ctx.obj) or options.against is not None
    with here_with_progress(out, offline=plan_options.offline) as here:
        deployment = None if plans else _deployment(here, word)
        if deployment is not None:
            report = _of_running(here, deployment, turn, options)
        else:
            plan = plan_request(word, plan_options, engine_options, ctx.obj)
            report = _of_model(here, plan, turn, options)
    if options.export is not None:
        export(report, options.export)
    out.show(report_document(report), *render_report(report))
    if report.gate is not None and report.gate.is_slower:
        raise typer.Exit(_SLOWER)


def _deployment(here: Here, word: str) -> Deployment | None:
    from launcher.deployment.record import Deployment, is_name
    from launcher.deployment.records import find_record

    found = find_record(here.settings.deployments_dir, word) if is_name(word) else None
    return found if isinstance(found, Deployment) else None


def _of_running(here: Here, deployment: Deployment, turn: TurnOptions, options: BenchOptions) -> Report:
    from launcher.commands.bench.running import bench_running

    return bench_running(here, deployment, _tests(turn, options), baseline=options.baseline)


def _of_model(here: Here, plan: PlanRequest, turn: TurnOptions, options: BenchOptions) -> Report:
    from launcher.commands.bench.bench import BenchRequest
    from launcher.commands.bench.bench import bench as bench_model

    request = BenchRequest(
        plan=plan,
        tests=_tests(turn, options),
        against=options.against,
        baseline=options.baseline,
    )
    return bench_model(here, request)


def _tests(turn: TurnOptions, options: BenchOptions) -> Tests:
    from launcher.commands.bench.llama_bench import Tests

    depths = tuple(sorted(set(options.depth or (0,))))
    return Tests(depths=depths, prompt=turn.prompt, reply=turn.reply, repetitions=options.repetitions)
