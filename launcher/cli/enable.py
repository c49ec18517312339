"""The commands `enable`, `disable` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.options import Name, unfolded
from launcher.cli.show.output import Output
from launcher.deployment.install.export import Format

System = Annotated[bool, typer.Option("--system", help="A unit of the system, not of this user.")]


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    for command in (enable, disable, export):
        app.command()(unfolded(command))


def enable(
    out: Output,
    name: Name = None,
    now: Annotated[bool, typer.Option("--now", help="Hand the running deployment over to systemd.")] = False,
    system: System = False,
) -> None:
    """Install a deployment as a systemd unit, hardened, to be started with the session."""
    from rich.text import Text

    from launcher.commands import install
    from launcher.deployment.install.systemd import lingers

    done = install.enable(name, now=now, system=system)
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

    from launcher.commands import install

    path: Path = install.disable(name, system=system)
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
    from launcher.commands import install

    text = install.export(name, kind, image or install.IMAGE)
    if out.as_json:
        out.show({"format": kind, "text": text})
    else:
        out.data(text)
