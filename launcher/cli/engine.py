"""Commands about the engine, llama.cpp's llama-server: build, list, info."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.here import working
from launcher.cli.options import EngineOptions, unfolded
from launcher.cli.show.output import Output
from launcher.machine.machine import Backend

engines = typer.Typer(help="The llama.cpp that plans and runs.", rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    engines.command("build")(unfolded(build))
    engines.command("list")(unfolded(list_engines))
    engines.command("info")(unfolded(info))
    app.add_typer(engines, name="engine")


def build(
    out: Output,
    backend: Annotated[
        Backend | None,
        typer.Option("--backend", help="Build for this [default: what the machine has].", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Compilers at once.", show_default=False)
    ] = None,
) -> None:
    """Build the pinned llama.cpp for this machine, once; minutes, then cached."""
    from launcher.cli.show import tables
    from launcher.commands import engine as engine_command

    out.say("Have a llama-server already? Use it as it is: --engine PATH, or LAUNCHER_ENGINE=PATH.")
    with working(out) as here:
        engine = engine_command.build(here, backend, jobs)
    out.show(engine, tables.engines((engine,)))


def list_engines(out: Output) -> None:
    """List the engines built here, newest first."""
    from launcher.cli.show import tables
    from launcher.engine import find
    from launcher.system.settings import read_settings

    found = find.read_engines(read_settings().engines_dir)
    out.show(found, tables.engines(found))


def info(engine: EngineOptions, out: Output) -> None:
    """Show the engine in use: version, commit, backends, devices, and the flags it understands."""
    from launcher.cli.show import tables
    from launcher.commands.engine import describe_engine

    with working(out) as here:
        described = describe_engine(here, engine.engine)
    out.show(tables.engine_document(described), tables.engine(described))
