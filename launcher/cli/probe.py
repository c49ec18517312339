"""The command `probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import working
from launcher.cli.options import EngineOptions, unfolded
from launcher.cli.show.output import Output


def register(app: typer.Typer) -> None:
    """Hang the command on the app."""
    app.command()(unfolded(probe))


def probe(
    engine: EngineOptions,
    out: Output,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the machine to this file.", show_default=False)
    ] = None,
) -> None:
    """Show what this machine is: GPUs, RAM, limits, cores, disk."""
    from launcher.cli.show import tables
    from launcher.commands import probe as probe_command
    from launcher.commands.engine import engine_or_none

    with working(out) as here:
        look = probe_command.look_once(here)
        machine = probe_command.probe(here, engine=engine_or_none(here, engine.engine, look), look=look)
    if save is not None:
        probe_command.save_machine(machine, save)
        out.say(f"saved to {save}: plan for it anywhere with --machine {save}")
    out.show(machine, tables.machine(machine))
