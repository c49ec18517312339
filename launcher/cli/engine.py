"""The commands `engine …`: llama.cpp's llama-server, installed, built, chosen and described."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions
from launcher.cli.options.single import Ref
from launcher.cli.show.output import Output
from launcher.errors import UsageError
from launcher.machine.machine import Backend

if TYPE_CHECKING:
    from launcher.commands.engine_build import BuildSource


def build(
    out: Output,
    tag: Annotated[
        str | None,
        typer.Argument(
            metavar="bNNNNN", help="Another build's sources, from the package index.", show_default=False
        ),
    ] = None,
    backends: Annotated[
        list[Backend] | None,
        typer.Option(
            "--backend",
            help="Build for this [default: what the machine has]; several: in one tree, each an engine.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu", metavar="NAME", help="For this card [default: those here]; several.", show_default=False
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, help="Compilers at once.", show_default=False)
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--source", metavar="DIR", help="A llama.cpp tree or fork of yours.", show_default=False
        ),
    ] = None,
    define: Annotated[
        list[str] | None,
        typer.Option(
            "-D", "--define", metavar="NAME=VALUE", help="For cmake, with --source.", show_default=False
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", help="Of bNNNNN's file in the index.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Agree to fetch NVIDIA's compiler.")] = False,
) -> None:
    """Build the pinned llama.cpp for this machine, once; minutes, then cached."""
    from launcher.cli.show.engines import render_built_engines
    from launcher.commands.engine_build import BuildFor
    from launcher.commands.engine_choice import build as build_engine

    out.say("Have a llama-server already? Use it as it is: --engine PATH, or LAUNCHER_ENGINE=PATH.")
    wanted = BuildFor(backends=tuple(backends or ()), gpus=tuple(gpus or ()), jobs=jobs)
    with here_with_progress(out, yes=yes, unasked=False) as here:
        built = build_engine(here, wanted, _build_source(tag, sha256, source, define or []))
    out.show(built if len(built) > 1 else built[0], render_built_engines(built))


def _build_source(
    tag: str | None, sha256: str | None, folder: Path | None, defines: list[str]
) -> BuildSource:
    from launcher.commands.engine_build import PINNED, BuildSource, recipe_of, source_of_build
    from launcher.system.settings import expand_home

    if tag is not None and folder is not None:
        raise UsageError(f"{tag} and --source {folder} name two sources", hint="leave one of them out")
    if defines and folder is None:
        raise UsageError(
            f"-D {defines[0]} is for a tree of yours",
            hint=f"launcher engine build --source DIR -D {defines[0]}",
        )
    if tag is not None:
        return source_of_build(tag, sha256)
    if folder is None:
        return PINNED
    folder = expand_home(folder).absolute()
    return BuildSource(recipe=recipe_of(folder, defines), folder=folder)


def install(
    out: Output,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
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
    from launcher.commands.engine_build import BuildFor
    from launcher.commands.engine_choice import build as build_engine
    from launcher.commands.engine_install import BUILD
    from launcher.commands.engine_install import install as install_engine

    with here_with_progress(out, unasked=False) as here:
        if source == BUILD:
            [engine] = build_engine(here, BuildFor(backends=() if backend is None else (backend,)))
            sentences: tuple[str, ...] = ()
        else:
            installed = install_engine(here, source, backend)
            engine, sentences = installed.engine, installed.sentences
    for sentence in sentences:
        out.say(sentence)
    out.show(engine, render_built_engines((engine,)))


def list_engines(out: Output) -> None:
    """List the engines that are here, newest first, and say which is used."""
    from launcher.cli.show.engines import render_built_engines, used_line
    from launcher.commands.engine_choice import list_engines as list_all

    with here_with_progress(out) as here:
        listed = list_all(here)
    used = [used_line(listed)] if listed.engines or listed.used else []
    out.show(listed.engines, render_built_engines(listed.engines), *used)


def use(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="As engine list names it, or its beginning; auto: the best here."
        ),
    ],
    out: Output,
) -> None:
    """Use this engine from now on, whatever else is here."""
    from launcher.cli.show.engines import render_built_engines
    from launcher.commands.engine_choice import use as use_engine

    with here_with_progress(out) as here:
        engine = use_engine(here, name)
    out.show(engine, render_built_engines((engine,)))


def update(
    out: Output,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE", help="What engine install takes [default: latest].", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask before a large download.")] = False,
) -> None:
    """Install a newer engine, and use it once it has answered and planned; the old one stays."""
    from launcher.cli.show.engines import render_built_engines
    from launcher.commands.engine_choice import update as update_engine

    with here_with_progress(out, yes=yes) as here:
        done = update_engine(here, source)
    for sentence in done.sentences:
        out.say(sentence)
    if done.before is not None and done.before.folder != done.engine.folder:
        out.say("back to the one before: launcher engine rollback")
    out.show(done.engine, render_built_engines((done.engine,)))


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="An engine, as engine list names it.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    ref: Ref,
    out: Output,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure both, in turns, as `bench --against` does.")
    ] = False,
) -> None:
    """Show two engines side by side: flags gained and lost, memory, and speed if it is to be measured."""
    from launcher.cli.show.engines import comparison_json, render_comparison
    from launcher.commands.engine_compare import compare as compare_engines

    with here_with_progress(out) as here:
        found = compare_engines(here, before, after, ref, measures=speed)
    out.show(comparison_json(found), render_comparison(found))


def rollback(out: Output) -> None:
    """Use the engine again that was used before the last update or use."""
    from launcher.cli.show.engines import render_built_engines
    from launcher.commands.engine_choice import rollback as roll_back

    with here_with_progress(out) as here:
        engine = roll_back(here)
    out.show(engine, render_built_engines((engine,)))


def rm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As engine list names it, or its beginning.")],
    out: Output,
) -> None:
    """Remove an engine that no deployment runs with."""
    from launcher.cli.show.tables import line
    from launcher.commands.engine_choice import remove

    with here_with_progress(out) as here:
        engine = remove(here, name)
    out.show({"removed": engine.folder.name}, line(f"removed {engine.folder.name}"))


def info(engine_options: EngineOptions, out: Output) -> None:
    """Show the engine in use: version, commit, backends, devices; --json has its flags."""
    from launcher.cli.show.engines import engine_json, render_engine
    from launcher.commands.engine import describe_engine

    with here_with_progress(out) as here:
        description = describe_engine(here, engine_options.engine)
    out.show(engine_json(description), render_engine(description))
