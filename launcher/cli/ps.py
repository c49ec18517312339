"""Commands about what is up already: restart, history, doctor, enable, disable, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.options import EngineOptions, Name, unfolded
from launcher.cli.output import Output
from launcher.engine.export import Format

System = Annotated[bool, typer.Option("--system", help="A unit of the system, not of this user.")]


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    for command in (restart, history, doctor, enable, disable, export):
        app.command()(unfolded(command))


def restart(out: Output, name: Name = None) -> None:
    """Start a deployment again: same server, same port; nothing is planned anew."""
    from launcher import upkeep
    from launcher.cli import deployments

    with out.progress() as progress:
        deployment = upkeep.restart(name, progress)
    out.show(deployments.document(deployment), deployments.card(deployment))


def history(
    out: Output,
    name: Name = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many of the last loads.")] = 20,
) -> None:
    """Show the last loads: planned against seen, how long, how they ended."""
    from launcher.cli import tables_history
    from launcher.engine.history import read
    from launcher.settings import read_settings

    entries = [entry for entry in read(read_settings().history_file) if name in {None, entry.name}]
    shown = tuple(entries[-lines:])
    out.show(shown, tables_history.table(shown))


def doctor(engine: EngineOptions, out: Output) -> None:
    """Say what is wrong with this machine or install, and the fix; exit 0 only when nothing is."""
    from launcher import doctor as examination
    from launcher.cli import tables_history

    findings = examination.examine(engine.engine)
    wrong = any(finding.wrong for finding in findings)
    out.show({"well": not wrong, "findings": findings}, tables_history.findings(findings))
    if wrong:
        raise typer.Exit(1)


def enable(
    out: Output,
    name: Name = None,
    now: Annotated[bool, typer.Option("--now", help="Hand the running deployment over to systemd.")] = False,
    system: System = False,
) -> None:
    """Install a deployment as a systemd unit, hardened, to be started with the session."""
    from rich.text import Text

    from launcher import upkeep
    from launcher.engine.systemd import lingers

    done = upkeep.enable(name, now=now, system=system)
    told = [f"wrote {done.path}" + (", verified" if done.verified else "")]
    if done.started is None:
        told.append("systemd does not run here: the unit is not started, and what runs goes on")
    else:
        told.append(f"{done.unit} is enabled" + (" and answers" if done.started else ""))
    if not system and done.started is not None and not lingers():
        told.append(
            "it ends with your last session: loginctl enable-linger keeps it up, and starts it at boot"
        )
    out.show(done, *(Text(line) for line in told))


def disable(
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The deployment.", show_default=False)],
    system: System = False,
) -> None:
    """Stop and remove the systemd unit of a deployment."""
    from rich.text import Text

    from launcher import upkeep

    path: Path = upkeep.disable(name, system=system)
    out.show({"removed": path}, Text(f"removed {path}"))


def export(
    out: Output,
    kind: Annotated[
        Format,
        typer.Argument(metavar="FORMAT", help="systemd, compose, kubernetes or shell.", show_default=False),
    ],
    name: Name = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Container image with llama-server.", show_default=False)
    ] = None,
) -> None:
    """Print a deployment's server for elsewhere, with requests and limits from the ledger."""
    from launcher import upkeep

    text = upkeep.export(name, kind, image or upkeep.IMAGE)
    if out.as_json:
        out.show({"format": kind, "text": text})
    else:
        out.data(text)
