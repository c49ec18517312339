"""The command `probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions
from launcher.cli.show.output import Output


def probe(
    engine_options: EngineOptions,
    out: Output,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the machine to this file.", show_default=False)
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure RAM, cores, disk and links to GPUs first, and keep it.")
    ] = False,
) -> None:
    """Show what this machine is: GPUs, RAM, limits, cores, disk."""
    from launcher.cli.show.machine import render_machine
    from launcher.commands.engine import engine_or_none
    from launcher.commands.probe import look_once, save_machine
    from launcher.commands.probe import measure as measure_machine
    from launcher.commands.probe import probe as probe_machine

    with here_with_progress(out) as here:
        look = look_once(here)  # one look at the hardware for the engine and for the machine
        engine = engine_or_none(here, engine_options.engine, look)
        machine = probe_machine(here, engine=engine, look=look)
        if measure:
            out.say("measuring RAM, cores, disk and links to GPUs, about 15 seconds")
            measure_machine(here, machine, engine)
            machine = probe_machine(here, engine=engine, look=look)
    if save is not None:
        save_machine(machine, save)
        out.say(f"saved to {save}: plan for it anywhere with --machine {save}")
    out.show(machine, render_machine(machine))
