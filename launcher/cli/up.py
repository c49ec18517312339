"""The commands that bring servers: up, run, serve."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import working
from launcher.cli.options import FLAGS, EngineOptions, OptionalRef, PlanOptions, Ref, ServeOptions, unfolded
from launcher.cli.show.output import Output
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.deployment.record import Deployment


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    for planning in (up, run, serve):
        app.command(epilog=FLAGS)(unfolded(planning))


def up(
    ctx: typer.Context,
    wanted: PlanOptions,
    where: ServeOptions,
    engine: EngineOptions,
    out: Output,
    ref: OptionalRef = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan only; pull and start nothing.")] = False,
    locked: Annotated[
        Path | None,
        typer.Option(
            "--locked", metavar="FILE", help="Start exactly what plan --lock wrote.", show_default=False
        ),
    ] = None,
) -> None:
    """Plan, pull and start a model in the background; returns when it has answered a token."""
    from launcher.cli.plan import show_plan
    from launcher.cli.requests import up_request
    from launcher.cli.show import deployments
    from launcher.commands.planned import Planned
    from launcher.commands.up.request import notes
    from launcher.commands.up.up import rehearse
    from launcher.commands.up.up import up as bring_up

    if (ref is None) == (locked is None):
        raise UsageError(
            "up needs a REF or --locked FILE, one of them",
            hint="launcher up REF, or launcher up --locked FILE",
        )
    if locked is not None and (dry_run or ctx.obj or where.mode is not None or wanted != PlanOptions()):
        raise UsageError(
            f"--locked {locked} starts exactly what is locked: no --dry-run, no wishes for the plan, no flags after --",
            hint=f"launcher up --locked {locked}",
        )
    request = up_request(ref or "", wanted, where, engine, ctx.obj, locked=locked)
    with working(out, offline=wanted.offline, yes=where.yes, env=request.env) as here:
        for note in notes(here, request):
            out.say(f"note: {note}")
        outcome = rehearse(here, request) if dry_run else bring_up(here, request)
    if isinstance(outcome, Planned):
        show_plan(outcome, out)
    else:
        out.show(deployments.document(outcome), deployments.card(outcome))


def run(
    ctx: typer.Context,
    ref: Ref,
    wanted: PlanOptions,
    where: ServeOptions,
    engine: EngineOptions,
    out: Output,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="[PROMPT]", help="One question; without it a chat.", show_default=False),
    ] = None,
) -> None:
    """Ask one question, or chat; starts the model if it is not up. What is piped in follows the question."""
    from launcher.cli import chat
    from launcher.cli.requests import up_request
    from launcher.commands import restart
    from launcher.commands.up.up import up as bring_up
    from launcher.deployment.status import find_server_trouble

    if prompt is None and out.as_json:
        raise UsageError("a chat is not one JSON document", hint=f'launcher run {ref} "…" --json')
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
        if not prompt:
            raise UsageError("nothing was asked: stdin is empty", hint=f'launcher run {ref} "…"')
    elif prompt is not None and (piped := _piped()):
        prompt = f"{prompt}\n\n{piped}"
    request = up_request(ref, wanted, where, engine, ctx.obj)
    with working(out, offline=wanted.offline, yes=where.yes, env=request.env) as here:
        plain = (wanted, where, engine, ctx.obj) == (
            PlanOptions(),
            ServeOptions(yes=where.yes),
            EngineOptions(),
            (),
        )
        deployment = (restart.running(ref) if plain else None) or bring_up(here, request)
    if (trouble := find_server_trouble(deployment)) is not None:
        out.say(f"note: {trouble.detail}")
    if prompt is None:
        chat.converse(deployment, out)
    else:
        chat.answer_once(deployment, prompt, out)


def _piped() -> str:
    """What a pipe or a file on stdin holds; nothing of a terminal, /dev/null, or a stdin that is closed."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return ""
    return sys.stdin.read().strip() if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) else ""


def serve(
    ctx: typer.Context, ref: Ref, wanted: PlanOptions, where: ServeOptions, engine: EngineOptions, out: Output
) -> None:
    """Like up, in the foreground: Ctrl-C or SIGTERM ends the server. For containers and systemd."""
    from launcher.cli.requests import up_request
    from launcher.cli.show import deployments
    from launcher.commands import serve as serve_command
    from launcher.commands.up.request import notes

    def announce(deployment: Deployment) -> None:
        out.show(deployments.document(deployment), deployments.card(deployment))
        sys.stdout.flush()

    request = up_request(ref, wanted, where, engine, ctx.obj)
    with working(out, offline=wanted.offline, yes=where.yes, env=request.env) as here:
        for note in notes(here, request):
            out.say(f"note: {note}")
        serve_command.serve(here, request, announce)
