"""Commands about what is up already: ps, logs, stop, restart, history."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options import Name, unfolded
from launcher.cli.show.output import Output
from launcher.errors import LauncherError, UsageError


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    for command in (ps, logs, stop, restart, history):
        app.command()(unfolded(command))


def restart(out: Output, name: Name = None) -> None:
    """Start a deployment again: same server, same port; nothing is planned anew."""
    from launcher.cli.show import deployments
    from launcher.commands import restart as restart_command

    with out.progress() as progress:
        deployment = restart_command.restart(name, progress)
    out.show(deployments.document(deployment), deployments.card(deployment))


def history(
    out: Output,
    name: Name = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last loads.")] = 20,
) -> None:
    """Show the last loads: planned against seen, how long, how they ended."""
    from launcher.cli.show import history as tables_history
    from launcher.deployment.history import read_history
    from launcher.system.settings import read_settings

    entries = [entry for entry in read_history(read_settings().history_file) if name in {None, entry.name}]
    shown = tuple(entries[-lines:])
    out.show(shown, tables_history.table(shown))


def ps(out: Output) -> None:
    """List what runs here."""
    from launcher.cli.show import deployments
    from launcher.deployment.install.systemd import installed_units, unit_name
    from launcher.deployment.records import read_all
    from launcher.deployment.takedown import tidy
    from launcher.system.settings import read_settings

    folder = read_settings(out.warn).deployments_dir
    tidy(folder)
    looked = [deployments.look_at(entry) for entry in read_all(folder)]
    out.show([deployments.entry_document(each) for each in looked], deployments.table(looked))
    for name, state in installed_units():
        out.say(f"note: {name} is a unit of systemd ({state}): systemctl --user status {unit_name(name)}")


def logs(
    out: Output,
    name: Name = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Stay and print what comes.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Print a deployment's log: what llama-server said."""
    from launcher.deployment.log_file import follow as read_log
    from launcher.deployment.records import log_path, name_or_only, require_record
    from launcher.system.settings import read_settings

    folder = read_settings(out.warn).deployments_dir
    chosen = name_or_only(folder, name)
    path = log_path(folder, chosen)
    if not path.exists():
        require_record(folder, chosen)
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

    from launcher.deployment.records import name_or_only, read_all
    from launcher.deployment.takedown import take_down
    from launcher.system.settings import read_settings

    if names and everything:
        raise UsageError("--all and names contradict each other", hint="launcher stop --all")
    folder = read_settings(out.warn).deployments_dir
    if everything:
        chosen = [entry.name for entry in read_all(folder)]
    else:
        chosen = list(dict.fromkeys(names or ())) or [name_or_only(folder, None)]
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
