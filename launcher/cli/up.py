"""The command `up`."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
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
    from launcher.commands.planned import Planned
    from launcher.commands.up.request import UpRequest
    from launcher.deployment.record import Deployment


class Spread(StrEnum):
    """What no two replicas share."""

    ZONE = "zone"


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
    replicas: Annotated[
        int | None,
        typer.Option(
            "--replicas",
            min=1,
            max=64,
            metavar="N",
            help="With --cluster: on N machines, under one name for launcher serve.",
            show_default=False,
        ),
    ] = None,
    spread: Annotated[
        Spread | None,
        typer.Option("--spread", help="Each replica in a zone of its own.", show_default=False),
    ] = None,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="Stay until it ends; Ctrl-C or SIGTERM ends it. For containers."),
    ] = False,
) -> None:
    """Plan, pull and start a model in the background; returns when it has answered a token."""
    from launcher.cli.requests import is_vllm, up_request
    from launcher.commands.cluster.replicas import ReplicasRequest, up_replicas
    from launcher.commands.cluster.there import ClusterRequest
    from launcher.commands.cluster.up import up_on_cluster
    from launcher.commands.foreground import stay_up
    from launcher.commands.up.request import notes
    from launcher.commands.up.up import rehearse
    from launcher.commands.up.up import up as bring_model_up

    decides = serve_options.mode is not None or serve_options.cpu or is_typed(ctx, PlanOptions)
    _check_source(ref, locked, asks_for_a_plan=bool(dry_run or ctx.obj or decides))
    _check_way(dry_run=dry_run, cluster=cluster, foreground=foreground, is_locked=locked is not None)
    _check_replicas(replicas, spread, cluster=cluster)
    request = up_request(ref or "", plan_options, serve_options, engine_options, ctx.obj, locked=locked)
    if is_vllm(engine_options) and locked is None:
        _up_vllm(request, plan_options, out, starts=not dry_run, stays=foreground)
        return
    offline, yes = plan_options.offline, serve_options.yes
    with here_with_progress(out, offline=offline, yes=yes, env=request.env) as here:
        for note in notes(here, request):
            out.say(f"note: {note}")
        if foreground:
            stay_up(here, request, partial(_announce, out))
            return
        if dry_run:
            planned = rehearse(here, request)
        elif cluster:
            words = tuple(spell(plan_options))
            wanted = ClusterRequest(request=request, words=words, flags=ctx.obj)
            if replicas is None:
                deployments = [up_on_cluster(here, wanted)]
            else:
                several = ReplicasRequest(cluster=wanted, replicas=replicas, one_a_zone=spread is not None)
                deployments = list(up_replicas(here, several))
        else:
            deployments = [bring_model_up(here, request)]
    if dry_run:
        typed = ["launcher", "up", ref or "", *spell(plan_options, serve_options, engine_options)]
        _show_rehearsed(planned, command_line(typed, ctx.obj), out)
    else:
        _announce(out, *deployments)


def _announce(out: Output, *deployments: Deployment) -> None:
    from launcher.cli.show.deployments import deployment_json, render_deployment

    documents = [deployment_json(each) for each in deployments]
    document = documents[0] if len(documents) == 1 else documents
    out.show(document, *map(render_deployment, deployments))
    sys.stdout.flush()  # the command may go on, and a pipe's reader waits for this


def _show_rehearsed(planned: Planned, line: str, out: Output) -> None:
    from launcher.cli.show.short_plan import NextCommands

    show_planned(planned, out, NextCommands(start=line, recommend="launcher recommend"))


def _up_vllm(
    request: UpRequest, plan_options: PlanOptions, out: Output, *, starts: bool, stays: bool
) -> None:
    from launcher.cli.vllm import show_plan_for_vllm

    if stays:
        raise UsageError("--foreground is llama-server's, and this is vLLM", hint="leave --foreground out")
    if not starts:
        show_plan_for_vllm(request.plan.ref, request.plan.flags, plan_options, out)
        return
    from launcher.commands.up.vllm import up_vllm

    with here_with_progress(out, offline=plan_options.offline, env=request.env) as here:
        deployment = up_vllm(here, request)
    _announce(out, deployment)


def _check_way(*, dry_run: bool, cluster: bool, foreground: bool, is_locked: bool) -> None:
    """Raise UsageError for ways to start a model that exclude each other."""
    if foreground and dry_run:
        raise UsageError("--dry-run starts nothing to stay with", hint="leave --foreground out")
    if cluster and (foreground or dry_run or is_locked):
        raise UsageError(
            "--cluster goes with neither --dry-run, --locked nor --foreground",
            hint="launcher plan REF --cluster plans only",
        )


def _check_replicas(replicas: int | None, spread: Spread | None, *, cluster: bool) -> None:
    """Raise UsageError for replicas that nothing could place."""
    if replicas is not None and not cluster:
        raise UsageError(
            "--replicas are placed on machines of the cluster", hint="launcher up REF --cluster --replicas 2"
        )
    if spread is not None and replicas is None:
        raise UsageError("--spread goes with --replicas", hint="launcher up REF --cluster --replicas 2")


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
