"""The command `enable`."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.options.single import Name, System
from launcher.cli.show.output import Output
from launcher.errors import UsageError


def enable(
    out: Output,
    name: Name = None,
    now: Annotated[bool, typer.Option("--now", help="Hand the running deployment over to systemd.")] = False,
    system: System = False,
    gateway: Annotated[bool, typer.Option("--gateway", help="Install launcher serve instead.")] = False,
) -> None:
    """Install a deployment as a systemd unit, hardened, to be started with the session."""
    from launcher.cli.show.tables import line
    from launcher.commands import install
    from launcher.deployment.install.systemd import lingers

    if gateway and name is not None:
        raise UsageError(f"--gateway and {name} name two units", hint="launcher enable --gateway")
    if gateway:
        installed = install.enable_gateway(now=now, system=system)
    else:
        installed = install.enable(name, now=now, system=system)
    lines = [f"wrote {installed.path}" + (", verified" if installed.verified else "")]
    if installed.started is None:
        lines.append("systemd does not run here: the unit is not started, and what runs goes on")
    else:
        lines.append(f"{installed.unit} is enabled" + (" and answers" if installed.started else ""))
    if not system and installed.started is not None and not lingers():
        lines.append(
            "it ends with your last session: loginctl enable-linger keeps it up, and starts it at boot"
        )
    out.show(installed, *(line(text) for text in lines))
