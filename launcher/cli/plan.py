"""The command `plan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import EngineOptions, MachineOptions, PlanOnlyOptions, PlanOptions
from launcher.cli.options.single import Ref
from launcher.cli.options.spell import command_line, spell
from launcher.cli.show.output import Output
from launcher.errors import DoesNotFit, EngineFailed, UsageError

if TYPE_CHECKING:
    from launcher.cli.show.short_plan import NextCommands
    from launcher.commands.planned import Buy, Planned, PlanRequest


def plan(
    ctx: typer.Context,
    ref: Ref,
    plan_options: PlanOptions,
    machine_options: MachineOptions,
    engine_options: EngineOptions,
    plan_only: PlanOnlyOptions,
    out: Output,
) -> None:
    """Choose quant, placement and context for this machine, or another one, and explain it."""
    from launcher.cli.requests import is_vllm, machine_choice, plan_request
    from launcher.cli.show.short_plan import NextCommands
    from launcher.commands.claims import describe_running
    from launcher.commands.plan import plan as plan_model

    if is_vllm(engine_options):
        from launcher.cli.vllm import show_plan_for_vllm

        if replace(plan_only, machines=None, explain=False) != PlanOnlyOptions():
            raise UsageError("--buy, --lock, --svg and --compare are llama.cpp's", hint="leave them out")
        show_plan_for_vllm(ref, ctx.obj, plan_options, out, machine_options, plan_only.machines)
        return
    request = plan_request(ref, plan_options, engine_options, ctx.obj)
    if plan_only.cluster or plan_only.machines is not None or len(machine_options.machine or ()) > 1:
        _plan_fleet(request, plan_only, machine_options, out, offline=plan_options.offline)
        return
    request = replace(request, machine=machine_choice(machine_options), buy=_how_to_buy(plan_only, out))
    if plan_only.compare:
        _compare(request, plan_only, out, offline=plan_options.offline)
        return
    with here_with_progress(out, offline=plan_options.offline) as here:
        planned = plan_model(here, request)
    if plan_only.lock is not None:
        from launcher.commands.lock import write_lock

        write_lock(planned, plan_only.lock)
        out.say(f"locked in {plan_only.lock}: start exactly this with launcher up --locked {plan_only.lock}")
    if plan_only.svg is not None:
        from launcher.cli.show.plan_picture import draw_plan

        _write_picture(draw_plan(planned), plan_only.svg, out)
    there = spell(machine_options)
    start = command_line(["launcher", "up", ref, *spell(plan_options, engine_options)], ctx.obj)
    commands = NextCommands(
        start=f"{start}   (there)" if there else start,
        recommend=command_line(["launcher", "recommend", *there]),
        running=None if there else describe_running(here.settings),
    )
    show_planned(planned, out, commands, explain=plan_only.explain or plan_only.buy)


def _write_picture(picture: str | None, path: Path, out: Output) -> None:
    from launcher.system.atomic_files import write_named

    if picture is None:
        return
    try:
        write_named(path, picture.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="name another file") from error
    out.say(f"drawn in {path}")


def _how_to_buy(plan_only: PlanOnlyOptions, out: Output) -> Buy:
    from launcher.commands.planned import Buy

    if plan_only.buy:
        return Buy.SIMULATED
    return Buy.NOT_ASKED if out.as_json else Buy.BY_FIGURES  # a person sees at once what would do


def _plan_fleet(
    request: PlanRequest,
    plan_only: PlanOnlyOptions,
    machine_options: MachineOptions,
    out: Output,
    *,
    offline: bool,
) -> None:
    from launcher.cli.show.fleet import render_fleet
    from launcher.commands.cluster.place import plan_over_nodes
    from launcher.commands.plan_fleet import fleet_document, plan_fleet, read_fleet
    from launcher.machine.fleet import fleet_of_refs
    from launcher.plan.plan import Finding

    given = plan_only.machines
    sources = (plan_only.cluster, given is not None, bool(machine_options.machine))
    if replace(machine_options, machine=None) != MachineOptions() or sum(sources) > 1:
        raise UsageError(
            "several machines are named by --machine, --machines FILE or --cluster, one of them, "
            "without --gpu, --ram or --cpu",
            hint="launcher probe --save FILE describes a machine, and --machine FILE names it",
        )
    if replace(plan_only, machines=None, cluster=False, explain=False) != PlanOnlyOptions():
        raise UsageError(
            "--buy, --lock, --svg and --compare are about one machine, and several are named",
            hint="leave them out, or name one machine",
        )
    with here_with_progress(out, offline=offline) as here:
        if plan_only.cluster:
            fleet, _ = plan_over_nodes(here, request)
        else:
            entries = read_fleet(given) if given is not None else fleet_of_refs(machine_options.machine or ())
            fleet = plan_fleet(here, request, entries)
    out.show(fleet_document(fleet), render_fleet(fleet))
    if fleet.finding is Finding.DOES_NOT_FIT:
        raise typer.Exit(DoesNotFit.exit_code)
    if fleet.finding is Finding.UNVERIFIED:
        raise typer.Exit(EngineFailed.exit_code)


def _compare(request: PlanRequest, plan_only: PlanOnlyOptions, out: Output, *, offline: bool) -> None:
    from launcher.cli.show.comparison import render_comparison
    from launcher.cli.show.depth_picture import draw_comparison
    from launcher.commands.compare_machines import compare_machines, comparison_document, fits_somewhere
    from launcher.commands.probe import THIS_MACHINE

    if request.machine != THIS_MACHINE:
        raise UsageError(
            "--compare names the machines, and --machine, --gpu, --ram or --cpu another one",
            hint="leave one of them out",
        )
    with here_with_progress(out, offline=offline) as here:
        compared = compare_machines(here, request, plan_only.compare or ())
    if plan_only.svg is not None:
        title = f"{request.ref}: speed of generation by depth"
        _write_picture(draw_comparison(compared, title), plan_only.svg, out)
    out.show(comparison_document(compared), render_comparison(compared))
    if not fits_somewhere(compared):
        raise typer.Exit(DoesNotFit.exit_code)


def show_planned(planned: Planned, out: Output, commands: NextCommands, *, explain: bool = False) -> None:
    """Print the plan, or why there is none. Exit with an error's code unless it fits, and that is known."""
    from launcher.cli.show.memory_bars import ASCII, BLOCKS
    from launcher.cli.show.plan import fold_command_line, render_planned
    from launcher.cli.show.short_plan import lines_to_type, render_short
    from launcher.commands.planned import document

    if explain:
        out.show(document(planned), render_planned(planned))
    else:
        out.show(document(planned), render_short(planned, commands, BLOCKS if out.is_unicode else ASCII))
        if not out.as_json:
            out.write("".join(f"{line}\n" for line in lines_to_type(planned, commands)))
    if explain and planned.argv and not out.as_json:
        out.write(f"\n{fold_command_line(planned.argv)}\n")
    if planned.plan is None:
        raise typer.Exit(DoesNotFit.exit_code)
    if planned.plan.unverified is not None:
        raise typer.Exit(EngineFailed.exit_code)
