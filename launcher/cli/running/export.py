"""The command `export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, MachineOptions, PlanOptions
from launcher.cli.show.output import Output
from launcher.deployment.install.export import Format
from launcher.errors import UsageError


def export(
    out: Output,
    kind: Annotated[
        Format,
        typer.Argument(metavar="FORMAT", help="systemd, compose, kubernetes or shell.", show_default=False),
    ],
    plan_options: PlanOptions,
    machine_options: MachineOptions,
    engine_options: EngineOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|REF]",
            help="The deployment; with --machine (or --gpu and --ram) a model.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", help="Container image [default: llama.cpp's own].", show_default=False),
    ] = None,
    models: Annotated[
        str, typer.Option("--models", metavar="FOLDER", help="With --machine: where its files will lie.")
    ] = "/srv/models",
    host: Annotated[str, typer.Option("--host", help="With --machine: address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="With --machine: port.")] = 8080,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", help="With --machine: file with keys, there.", show_default=False),
    ] = None,
) -> None:
    """Print a server for elsewhere: a deployment's, or one planned for a machine that is not here."""
    from launcher.commands import install

    if machine_options == MachineOptions():
        if plan_options != PlanOptions() or engine_options != EngineOptions():
            raise UsageError(
                "a deployment is exported as it was planned",
                hint="launcher export FORMAT REF --machine NAME plans one",
            )
        text = install.export(name, kind, image)
    else:
        from launcher.cli.requests import machine_choice, plan_request

        if name is None:
            raise UsageError("--machine needs a REF: which model?", hint="launcher models")
        request = plan_request(name, plan_options, engine_options, ())
        place = install.Elsewhere(
            folder=models,
            port=port,
            host=host,
            api_key_file=None if api_key_file is None else str(api_key_file),
        )
        with here_with_progress(out, offline=plan_options.offline) as here:
            text = install.export_plan(
                here, replace(request, machine=machine_choice(machine_options)), place, kind, image
            )
    if out.as_json:
        out.show({"format": kind, "text": text})
    else:
        out.write_file(text)
