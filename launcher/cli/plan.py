"""Commands that look and change nothing: probe, inspect, plan, profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launcher.cli.options import (
    FLAGS,
    EngineOptions,
    MachineOptions,
    Offline,
    PlanOnlyOptions,
    PlanOptions,
    Ref,
    unfolded,
)
from launcher.cli.output import Output
from launcher.errors import DoesNotFit

if TYPE_CHECKING:
    from launcher.planning import Planned

profiles = typer.Typer(help="The models launcher knows by name.", rich_markup_mode=None, no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Hang the commands on the app."""
    app.command()(unfolded(probe))
    app.command()(unfolded(inspect))
    app.command(epilog=FLAGS)(unfolded(plan))
    profiles.command("list")(unfolded(list_profiles))
    profiles.command("show")(unfolded(show_profile))
    app.add_typer(profiles, name="profiles")


def probe(
    engine: EngineOptions,
    out: Output,
    save: Annotated[
        Path | None, typer.Option("--save", help="Write the machine to this file.", show_default=False)
    ] = None,
) -> None:
    """Show what this machine is: GPUs, RAM, limits, cores, disk."""
    from launcher import inventory
    from launcher.cli import tables
    from launcher.settings import read_settings

    machine = inventory.this_machine(inventory.engine_or_none(engine.engine, read_settings()))
    if save is not None:
        inventory.save_machine(machine, save)
        out.say(f"saved to {save}: plan for it anywhere with --machine {save}")
    out.show(machine, tables.machine(machine))


def inspect(
    ref: Ref,
    out: Output,
    offline: Offline = False,  # noqa: ARG001 (its callback has acted)
    quant: Annotated[str | None, typer.Option("--quant", help="This quant.", show_default=False)] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Keep the headers in this file, to plan offline.", show_default=False),
    ] = None,
) -> None:
    """Read a model's headers, no weights: architecture, sizes, quant as the tensors really are."""
    from launcher import catalogue
    from launcher.cli import inspection
    from launcher.gguf.anatomy import dissect
    from launcher.hub.saved import save_headers
    from launcher.settings import read_settings

    with out.progress() as progress:
        target = catalogue.resolve(ref, quant, catalogue.sources_of(read_settings()))
        model = (located := target.candidates[0].open(progress)).model
    anatomy = dissect(model.metadata, model.tensors, file_name=model.shards[0].name)
    if save is not None:
        kept = save_headers(located, save)
        out.say(f"saved to {kept}: plan with it offline, launcher plan ./{kept.name}")
    out.show(inspection.document(model, anatomy), inspection.table(model, anatomy))


def plan(
    ctx: typer.Context,
    ref: Ref,
    wanted: PlanOptions,
    machine: MachineOptions,
    engine: EngineOptions,
    only: PlanOnlyOptions,
    out: Output,
) -> None:
    """Choose quant, placement and context for this machine, or another one, and explain it."""
    from launcher import launch
    from launcher.cli.requests import plan_request

    request = plan_request(ref, wanted, engine, ctx.obj, machine=machine, only=only)
    with out.progress() as progress:
        planned = launch.plan_model(request, progress)
    if only.lock is not None:
        from launcher.lock import write_lock

        write_lock(planned, only.lock)
        out.say(f"locked in {only.lock}: start exactly this with launcher up --locked {only.lock}")
    show_plan(planned, out)


def show_plan(planned: Planned, out: Output) -> None:
    """Print a plan, or why there is none; the exit code says which."""
    from launcher import planning
    from launcher.cli import tables_plan

    out.show(planning.document(planned), tables_plan.planned(planned))
    if planned.argv and not out.as_json:
        out.data(f"\n{tables_plan.command_line(planned.argv)}\n")
    if planned.plan is None:
        raise typer.Exit(DoesNotFit.exit_code)


def list_profiles(out: Output) -> None:
    """List the profiles: name, model, quants, context."""
    from launcher import catalogue
    from launcher.cli import tables
    from launcher.settings import read_settings

    found = catalogue.read_profiles(read_settings())
    for broken in found.broken:
        out.say(f"note: {broken.error.message}")
    out.show(found.usable, tables.profiles(found.usable))


def show_profile(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A profile's name.", show_default=False)],
    out: Output,
) -> None:
    """Show one profile: its quants and where they live, sampling, the paid API it compares to."""
    from launcher import catalogue
    from launcher.cli import tables
    from launcher.profile import pick_profile
    from launcher.settings import read_settings

    profile = pick_profile(catalogue.read_profiles(read_settings()), name)
    out.show(profile, tables.profile(profile))
