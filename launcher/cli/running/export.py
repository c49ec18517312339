"""The command `export`."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, MachineOptions, PlanOptions
from launcher.cli.show.output import Output
from launcher.deployment.install.export import Format
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.commands.export.planned import Elsewhere
    from launcher.commands.here import Here
    from launcher.commands.planned import PlanRequest


class ExportFormat(StrEnum):
    """What is written: a server in a Format, or what stands before the gateway."""

    SYSTEMD = "systemd"
    COMPOSE = "compose"
    KUBERNETES = "kubernetes"
    SHELL = "shell"
    LWS = "lws"
    SBATCH = "sbatch"
    SKYPILOT = "skypilot"
    LITELLM = "litellm"


def export(
    out: Output,
    kind: Annotated[
        ExportFormat,
        typer.Argument(
            metavar="FORMAT",
            help="systemd, compose, kubernetes, shell, lws, sbatch or skypilot; litellm: a proxy for serve.",
            show_default=False,
        ),
    ],
    plan_options: PlanOptions,
    machine_options: MachineOptions,
    engine_options: EngineOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|REF",
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
    if kind is ExportFormat.LITELLM:
        if name is not None or machine_options != MachineOptions():
            raise UsageError(
                "export litellm writes all models of the gateway that runs", hint="launcher export litellm"
            )
        text = _of_gateway(out)
    elif machine_options == MachineOptions():
        text = _of_deployment(name, Format(kind), image, as_planned=(plan_options, engine_options))
    else:
        from launcher.commands.export.planned import Elsewhere

        if name is None:
            raise UsageError("--machine needs a REF: which model?", hint="launcher models")
        keys = None if api_key_file is None else str(api_key_file)
        place = Elsewhere(folder=models, port=port, host=host, api_key_file=keys)
        with here_with_progress(out, offline=plan_options.offline) as here:
            options = (plan_options, machine_options, engine_options)
            text = _planned(here, name, options, place, Format(kind), image)
    if out.as_json:
        out.show({"format": kind, "text": text})
    else:
        out.write_file(text)


def _of_gateway(out: Output) -> str:
    """Write the configuration of a proxy before the gateway. Raises TryAgain if none runs."""
    from launcher.gateway.config import read_gateway_config
    from launcher.gateway.connect.litellm import KEY, MASTER_KEY, litellm_config
    from launcher.gateway.connect.write import find_endpoint
    from launcher.gateway.running_address import gateway_url
    from launcher.system.settings import read_settings

    settings = read_settings()
    at = find_endpoint(gateway_url(settings, read_gateway_config(settings)), os.environ.get(KEY), None)
    out.say(
        f"note: it reads {KEY} (a key of launcher keys add; on loopback any) and {MASTER_KEY} (its own,"
        " sk-...); then: litellm --config FILE"
    )
    return litellm_config(at)


def _of_deployment(
    name: str | None, kind: Format, image: str | None, *, as_planned: tuple[PlanOptions, EngineOptions]
) -> str:
    """Return a deployment's server. Raises UsageError for options that would plan another one."""
    from launcher.commands.export.running import export as export_running

    if as_planned != (PlanOptions(), EngineOptions()):
        raise UsageError(
            "a deployment is exported as it was planned",
            hint="launcher export FORMAT REF --machine NAME plans one",
        )
    return export_running(name, kind, image)


def _planned(
    here: Here,
    ref: str,
    options: tuple[PlanOptions, MachineOptions, EngineOptions],
    place: Elsewhere,
    kind: Format,
    image: str | None,
) -> str:
    """Plan a server for a machine that is not here."""
    from launcher.cli.requests import is_vllm, plan_request
    from launcher.cli.vllm import planned_for_vllm
    from launcher.commands.export.vllm import export_vllm

    plan_options, machine_options, engine_options = options
    if is_vllm(engine_options):
        planned = planned_for_vllm(here, ref, (), plan_options, machine_options)
        return export_vllm(planned, place, kind, image)
    request = plan_request(ref, plan_options, engine_options, ())
    return _of_llama_cpp(here, request, machine_options, place, kind, image)


def _of_llama_cpp(
    here: Here,
    request: PlanRequest,
    machine_options: MachineOptions,
    place: Elsewhere,
    kind: Format,
    image: str | None,
) -> str:
    """Plan for one machine, or for several that a model is split over."""
    from launcher.cli.requests import machine_choice
    from launcher.commands.export.planned import export_plan, export_split
    from launcher.machine.fleet import fleet_of_refs

    machines = machine_options.machine or ()
    if len(machines) > 1:
        return export_split(here, request, fleet_of_refs(machines), place, kind, image)
    request = replace(request, machine=machine_choice(machine_options))
    return export_plan(here, request, place, kind, image)
