"""Commands that bring servers: up, run, serve, ps, logs, stop."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.options import (
    FLAGS,
    EngineOptions,
    Name,
    OptionalRef,
    PlanOptions,
    Ref,
    ServeOptions,
    unfolded,
)
from launcher.cli.output import Output
from launcher.errors import LauncherError, UsageError

if TYPE_CHECKING:
    from launcher.engine.record import Deployment


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    for planning in (up, run, serve):
        app.command(epilog=FLAGS)(unfolded(planning))
    for command in (ps, logs, stop):
        app.command()(unfolded(command))


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
    from launcher import launch
    from launcher.cli import deployments
    from launcher.cli.looking import show_plan
    from launcher.cli.requests import up_request

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
    for note in launch.notes(request):
        out.say(f"note: {note}")
    with out.progress() as progress:
        if dry_run:
            planned = launch.rehearse(request, progress)
        else:
            deployment = launch.up(request, out.confirm(yes=where.yes), progress, consent=out.consent)
    if dry_run:
        show_plan(planned, out)
    else:
        out.show(deployments.document(deployment), deployments.card(deployment))


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
    from launcher import launch
    from launcher.cli import chat
    from launcher.cli.requests import up_request
    from launcher.engine.vitals import trouble_of

    if prompt is None and out.as_json:
        raise UsageError("a chat is not one JSON document", hint=f'launcher run {ref} "…" --json')
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
        if not prompt:
            raise UsageError("nothing was asked: stdin is empty", hint=f'launcher run {ref} "…"')
    elif prompt is not None and (piped := _piped()):
        prompt = f"{prompt}\n\n{piped}"
    request = up_request(ref, wanted, where, engine, ctx.obj)
    with out.progress() as progress:
        plain = (wanted, where, engine, ctx.obj) == (
            PlanOptions(),
            ServeOptions(yes=where.yes),
            EngineOptions(),
            (),
        )
        deployment = (launch.running(ref) if plain else None) or launch.up(
            request, out.confirm(yes=where.yes), progress, consent=out.consent
        )
    if (trouble := trouble_of(deployment)) is not None:
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
    from launcher import launch
    from launcher.cli import deployments
    from launcher.cli.requests import up_request

    def announce(deployment: Deployment) -> None:
        out.show(deployments.document(deployment), deployments.card(deployment))
        sys.stdout.flush()

    request = up_request(ref, wanted, where, engine, ctx.obj)
    for note in launch.notes(request):
        out.say(f"note: {note}")
    with out.progress() as progress:
        launch.serve(request, out.confirm(yes=where.yes), progress, announce)


def ps(out: Output) -> None:
    """List what runs here."""
    from launcher.cli import deployments
    from launcher.engine.deployments import read_all
    from launcher.engine.systemd import installed, unit_name
    from launcher.engine.takedown import tidy
    from launcher.settings import read_settings

    folder = read_settings(out.warn).deployments_dir
    tidy(folder)
    looked = [deployments.look_at(entry) for entry in read_all(folder)]
    out.show([deployments.entry_document(each) for each in looked], deployments.table(looked))
    for name, state in installed():
        out.say(f"note: {name} is a unit of systemd ({state}): systemctl --user status {unit_name(name)}")


def logs(
    out: Output,
    name: Name = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Stay and print what comes.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Print a deployment's log: what llama-server said."""
    from launcher.engine.deployments import log_path, require, the_name
    from launcher.engine.log import follow as read_log
    from launcher.settings import read_settings

    folder = read_settings(out.warn).deployments_dir
    chosen = the_name(folder, name)
    path = log_path(folder, chosen)
    if not path.exists():
        require(folder, chosen)
    found = read_log(path, last_lines=lines, ended=None if follow else lambda: True)
    if not out.as_json:
        for line in found:
            out.data(line + "\n")
        return
    if follow:
        raise UsageError("a log that goes on is not one JSON document", hint=f"launcher logs {chosen} --json")
    out.show({"name": chosen, "path": path, "lines": tuple(found)})


def stop(
    out: Output,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="The deployments; not needed when there is one.", show_default=False
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all deployments.")] = False,
) -> None:
    """End deployments, gracefully, then by force."""
    from rich.text import Text

    from launcher.engine.deployments import read_all, the_name
    from launcher.engine.takedown import take_down
    from launcher.settings import read_settings

    if names and everything:
        raise UsageError("--all and names contradict each other", hint="launcher stop --all")
    folder = read_settings(out.warn).deployments_dir
    if everything:
        chosen = [entry.name for entry in read_all(folder)]
    else:
        chosen = list(dict.fromkeys(names or ())) or [the_name(folder, None)]
    ended, failed = [], []
    for each in chosen:
        try:
            ended.append(take_down(folder, each))
        except LauncherError as error:
            failed.append(error)
    words = {"gone": "was gone already; forgotten", "starting": "stopped while it was starting"}
    if not failed or (ended and not out.as_json):
        out.show(ended, *(Text(f"{one.name} {words.get(one.was, 'stopped')}") for one in ended))
    for other in failed[1:]:
        out.say(f"error: {other.message}")
    if failed:
        raise failed[0]
