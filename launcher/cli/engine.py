"""The commands `engine build`, `engine list` and `engine info`: llama.cpp's llama-server."""

from __future__ import annotations

from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions
from launcher.cli.show.output import Output
from launcher.machine.machine import Backend


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
    from launcher.cli.show.engines import render_built_engines
    from launcher.commands.engine import build as build_engine

    out.say("Have a llama-server already? Use it as it is: --engine PATH, or LAUNCHER_ENGINE=PATH.")
    with here_with_progress(out) as here:
        engine = build_engine(here, backend, jobs)
    out.show(engine, render_built_engines((engine,)))


def install(
    out: Output,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="b12345, latest, build, wheel, an https:// address, an archive [default: the best here].",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        Backend | None,
        typer.Option("--backend", help="Only one for this.", show_default=False),
    ] = None,
) -> None:
    """Install an engine that is built already: llama.cpp's own release, or a wheel; in under a minute."""
    from launcher.cli.show.engines import render_built_engines
    from launcher.commands.engine import build as build_engine
    from launcher.commands.engine_install import BUILD
    from launcher.commands.engine_install import install as install_engine

    with here_with_progress(out) as here:
        if source == BUILD:
            engine = build_engine(here, backend)
            sentences: tuple[str, ...] = ()
        else:
            installed = install_engine(here, source, backend)
            engine, sentences = installed.engine, installed.sentences
    for sentence in sentences:
        out.say(sentence)
    out.show(engine, render_built_engines((engine,)))


def list_engines(out: Output) -> None:
    """List the engines built here, newest first."""
    from launcher.cli.show.engines import render_built_engines
    from launcher.engine.find import read_engines
    from launcher.system.settings import read_settings

    engines = read_engines(read_settings().engines_dir)
    out.show(engines, render_built_engines(engines))


def info(engine_options: EngineOptions, out: Output) -> None:
    """Show the engine in use: version, commit, backends, devices, and the flags it understands."""
    from launcher.cli.show.engines import engine_json, render_engine
    from launcher.commands.engine import describe_engine

    with here_with_progress(out) as here:
        description = describe_engine(here, engine_options.engine)
    out.show(engine_json(description), render_engine(description))
