"""The command `tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output


def tune(
    ctx: typer.Context,
    ref: Ref,
    plan_options: PlanOptions,
    engine_options: EngineOptions,
    out: Output,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.1, max=24 * 60, help="Stop within this time.")
    ] = 10,
    traffic: Annotated[
        Path | None,
        typer.Option(
            "--traffic",
            metavar="FILE",
            help='Measure your own prompts: {"prompt": …} or {"messages": …} a line, every third held out.',
            show_default=False,
        ),
    ] = None,
    prompt: Annotated[
        int, typer.Option("--prompt", min=1, max=1 << 20, help="Tokens of a prompt, without --traffic.")
    ] = 512,
    reply: Annotated[int, typer.Option("--reply", min=2, max=1 << 16, help="Tokens of a reply.")] = 64,
) -> None:
    """Try settings one after the other, and keep those that are faster beyond the noise.

    The next plans of the model with this engine use them, and say so; --untuned plans without. Tried are
    threads, batches, KV types, load modes, experts on the host, NUMA modes and drafts, each within the
    memory that a plan may use. Ends early when nothing is left to try; ended at any moment it leaves nothing
    running and changes nothing.
    """
    from launcher.cli.requests import plan_request
    from launcher.cli.show.tuned import render_tuning
    from launcher.commands.tune.report import tuning_document
    from launcher.commands.tune.tune import TuneRequest
    from launcher.commands.tune.tune import tune as tune_model

    request = TuneRequest(
        plan=plan_request(ref, plan_options, engine_options, ctx.obj),
        budget_s=minutes * 60,
        traffic=traffic,
        prompt=prompt,
        reply=reply,
    )
    with here_with_progress(out, offline=plan_options.offline) as here:
        report = tune_model(here, request)
    out.show(tuning_document(report), *render_tuning(report))
