"""The command `tune`."""

from __future__ import annotations

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.measuring import TuneOptions, TurnOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output


def tune(
    ctx: typer.Context,
    ref: Ref,
    plan_options: PlanOptions,
    engine_options: EngineOptions,
    options: TuneOptions,
    turn: TurnOptions,
    out: Output,
) -> None:
    """Try settings one after the other, and keep those that are faster beyond the noise.

    The next plans of the model with this engine use them, and say so; --untuned plans without. Tried are
    threads, batches, KV types, load modes, experts on the host, op offload, NUMA modes and drafts, each
    within the memory that a plan may use. Ends early when nothing is left to try; ended at any moment it
    leaves nothing running and changes nothing.
    """
    from launcher.cli.requests import plan_request
    from launcher.cli.show.tuned import render_tuning
    from launcher.commands.tune.report import tuning_document
    from launcher.commands.tune.tune import TuneRequest
    from launcher.commands.tune.tune import tune as tune_model

    request = TuneRequest(
        plan=plan_request(ref, plan_options, engine_options, ctx.obj),
        budget_s=options.minutes * 60,
        traffic=options.traffic,
        prompt=turn.prompt,
        reply=turn.reply,
    )
    with here_with_progress(out, offline=plan_options.offline) as here:
        report = tune_model(here, request)
    out.show(tuning_document(report), *render_tuning(report))
