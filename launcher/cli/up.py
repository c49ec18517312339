"""The command `up`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions
from launcher.cli.options.configured import is_typed
from launcher.cli.options.serving import ServeOptions
from launcher.cli.options.single import OptionalRef
from launcher.cli.options.spell import command_line, spell
from launcher.cli.plan import show_planned
from launcher.cli.show.output import Output
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.commands.up.request import UpRequest
    from launcher.deployment.record import Deployment


def up(
    ctx: typer.Context,
    plan_options: PlanOptions,
    serve_options: ServeOptions,
    engine_options: EngineOptions,
    out: Output,
    ref: OptionalRef = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan only; pull and start nothing.")] = False,
    locked: Annotated[
        Path | None,
        typer.Option(
            "--locked", metavar="FILE", help="Start exactly what plan --lock wrote.", show_default=False
        ),
    ] = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="On the machine of launcher cluster that holds it, or over several."),
    ] = False,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Stay until it ends; Ctrl-C or SIGTERM ends it. For containers."),
    ] = False,
) -> None:
    """Plan, pull and start a model in the background; returns when it has answered a token."""
    from launcher.cli.requests import is_vllm, up_request
    from launcher.cli.show.deployments import deployment_json, render_deployment
    from launcher.cli.show.short_plan import NextCommands
    from launcher.commands.cluster.there import ClusterRequest
    from launcher.commands.cluster.up import up_on_cluster
    from launcher.commands.foreground import stay_up
    from launcher.commands.planned import Planned
    from launcher.commands.up.request import notes
    from launcher.commands.up.up import rehearse
    from launcher.commands.up.up import up as bring_model_up

    decides = serve_options.mode is not None or serve_options.cpu or is_typed(ctx, PlanOptions)
    asks_for_a_plan = dry_run or ctx.obj or decides
    _check_source(ref, locked, asks_for_a_plan=bool(asks_for_a_plan))
    if foreground and dry_run:
        raise UsageError("--dry-run starts nothing to stay with", hint="launcher up REF --dry-run")

    if cluster and (foreground or dry_run or locked is not None):
        raise UsageError(
            "--cluster goes with neither --dry-run, --locked nor --foreground",
            hint="launcher plan REF --cluster plans only",
        )

    def announce(deployment: Deployment) -> None:
        out.show(deployment_json(deployment), render_deployment(deployment))
        sys.stdout.flush()  # the command may go on, and a pipe's reader waits for this

    if is_vllm(engine_options) and locked is None:
        request = up_request(ref or "", plan_options, serve_options, engine_options, ctx.obj)
        _up_vllm(request, plan_options, out, starts=not dry_run, stays=foreground)
        return
    request = up_request(ref or "", plan_options, serve_options, engine_options, ctx.obj, locked=locked)
    offline, yes = plan_options.offline, serve_options.yes
    with here_with_progress(out, offline=offline, yes=yes, env=request.env) as here:
        for note in notes(here, request):
            out.say(f"note: {note}")
        if foreground:
            stay_up(here, request, announce)
            return
        if cluster:
            cluster_request = ClusterRequest(request=request, words=tuple(spell(plan_options)), flags=ctx.obj)
            announce(up_on_cluster(here, cluster_request))
            return
        outcome = rehearse(here, request) if dry_run else bring_model_up(here, request)
    if isinstance(outcome, Planned):
        words = ["launcher", "up", ref or "", *spell(plan_options, serve_options, engine_options)]
        commands = NextCommands(start=command_line(words, ctx.obj), recommend="launcher recommend")
        show_planned(outcome, out, commands)
    else:
        announce(outcome)


def _up_vllm(
    request: UpRequest, plan_options: PlanOptions, out: Output, *, starts: bool, stays: bool
) -> None:
    from launcher.cli.show.deployments import deployment_json, render_deployment
    from launcher.cli.vllm import show_plan_for_vllm

    if stays:
        raise UsageError("--foreground is llama-server's, and this is vLLM", hint="leave --foreground out")
    if not starts:
        show_plan_for_vllm(request.plan.ref, request.plan.flags, plan_options, out)
        return
    from launcher.commands.up.vllm import up_vllm

    with here_with_progress(out, offline=plan_options.offline, env=request.env) as here:
        deployment = up_vllm(here, request)
    out.show(deployment_json(deployment), render_deployment(deployment))


def _check_source(ref: str | None, locked: Path | None, *, asks_for_a_plan: bool) -> None:
    """Raise UsageError unless there is either a REF, or a lock file and nothing else that decides a plan."""
    if (ref is None) == (locked is None):
        raise UsageError(
            "up needs a REF or --locked FILE, one of them",
            hint="launcher up REF, or launcher up --locked FILE",
        )
    if locked is not None and asks_for_a_plan:
        raise UsageError(
            f"--locked {locked} starts exactly what is locked: "
            "no --dry-run, no wishes for the plan, no flags after --",
            hint=f"launcher up --locked {locked}",
        )
