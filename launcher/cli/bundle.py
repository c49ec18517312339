"""The command `bundle`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, MachineOptions, PlanOptions
from launcher.cli.show.output import Output
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.commands.planned import PlanRequest

_INSTALL = "install"


def bundle(
    ctx: typer.Context,
    out: Output,
    ref: Annotated[
        str, typer.Argument(metavar="REF|install", help="The model; or install: FILE is one that was made.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.", show_default=False)],
    plan_options: PlanOptions,
    machine_options: MachineOptions,
    engine_options: EngineOptions,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="Do not ask; install: trust the engine in it.")
    ] = False,
) -> None:
    """Write a model with its engine into one file for a machine without a network, or install that."""
    from launcher.cli.requests import machine_choice, plan_request

    if ref == _INSTALL:
        asked = (plan_options, machine_options, engine_options)
        if ctx.obj or asked != (PlanOptions(), MachineOptions(), EngineOptions()):
            raise UsageError(
                f"{file} is installed as it was made: no options of a plan",
                hint=f"launcher bundle install {file}",
            )
        _install(out, file, trusts=yes)
    else:
        request = replace(
            plan_request(ref, plan_options, engine_options, ctx.obj), machine=machine_choice(machine_options)
        )
        _make(out, request, file, offline=plan_options.offline, yes=yes)


def _make(out: Output, request: PlanRequest, file: Path, *, offline: bool, yes: bool) -> None:
    from launcher.commands.bundle.make import make_bundle
    from launcher.system.settings import expand_home
    from launcher.units import format_bytes

    with here_with_progress(out, offline=offline, yes=yes) as here:
        made = make_bundle(here, request, expand_home(file))
    out.show_lines(
        {
            "file": str(made.file),
            "size_bytes": made.size_bytes,
            "model_id": made.manifest.model_id,
            "manifest_sha256": made.manifest_sha256,
            "engine_sha256": made.manifest.engine.sha256,
        },
        (
            f"bundle    {made.file}, {format_bytes(made.size_bytes)}",
            f"model     {made.manifest.model_id}",
            f"manifest  sha256 {made.manifest_sha256}",
            f"install   launcher bundle install {made.file.name}",
        ),
    )


def _install(out: Output, file: Path, *, trusts: bool) -> None:
    from launcher.commands.bundle.install import install_bundle

    with here_with_progress(out, offline=True) as here:
        installed = install_bundle(here, file, trusts=trusts)
    out.show_lines(
        {
            "model_id": installed.model_id,
            "folder": str(installed.folder),
            "lock": str(installed.lock),
            "engine": str(installed.engine.path),
            "start": installed.start,
        },
        (f"model   {installed.model_id}", f"files   {installed.folder}", f"start   {installed.start}"),
    )
