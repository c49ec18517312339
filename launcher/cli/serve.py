"""The command `serve`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, PlanOptions, ServeOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output

if TYPE_CHECKING:
    from launcher.deployment.record import Deployment


def serve(
    ctx: typer.Context,
    ref: Ref,
    plan_options: PlanOptions,
    serve_options: ServeOptions,
    engine_options: EngineOptions,
    out: Output,
) -> None:
    """Like up, in the foreground: Ctrl-C or SIGTERM ends the server. For containers and systemd."""
    from launcher.cli.requests import up_request
    from launcher.cli.show.deployments import deployment_json, render_deployment
    from launcher.commands.serve import serve as serve_model
    from launcher.commands.up.request import notes

    def announce(deployment: Deployment) -> None:
        out.show(deployment_json(deployment), render_deployment(deployment))
        sys.stdout.flush()  # the command goes on, and a pipe's reader waits for this

    request = up_request(ref, plan_options, serve_options, engine_options, ctx.obj)
    offline, yes = plan_options.offline, serve_options.yes
    with here_with_progress(out, offline=offline, yes=yes, env=request.env) as here:
        for note in notes(here, request):
            out.say(f"note: {note}")
        serve_model(here, request, announce)
