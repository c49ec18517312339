"""The command `probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    from launcher.commands import probe as inventory
    from launcher.commands.engine import engine_or_none
    from launcher.system.settings import read_settings

    machine = inventory.this_machine(engine_or_none(engine.engine, read_settings()))
    if save is not None:
        inventory.save_machine(machine, save)
        out.say(f"saved to {save}: plan for it anywhere with --machine {save}")
    out.show(machine, tables.machine(machine))
