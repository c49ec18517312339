"""The command `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from launcher.cli.here import working
from launcher.cli.options import (
    FLAGS,
    EngineOptions,
    MachineOptions,
    PlanOnlyOptions,
    PlanOptions,
    Ref,
    unfolded,
)
from launcher.cli.show.output import Output
from launcher.errors import DoesNotFit

if TYPE_CHECKING:
    from launcher.commands.planned import Planned


def register(app: typer.Typer) -> None:
    """Hang the command on the app."""
    app.command(epilog=FLAGS)(unfolded(plan))


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
    from launcher.cli.requests import plan_request
    from launcher.commands.plan import plan as plan_model

    request = plan_request(ref, wanted, engine, ctx.obj, machine=machine, only=only)
    with working(out, offline=wanted.offline) as here:
        planned = plan_model(here, request)
    if only.lock is not None:
        from launcher.commands.lock import write_lock

        write_lock(planned, only.lock)
        out.say(f"locked in {only.lock}: start exactly this with launcher up --locked {only.lock}")
    show_plan(planned, out)


def show_plan(planned: Planned, out: Output) -> None:
    """Print a plan, or why there is none; the exit code says which."""
    from launcher.cli.show import plan as show
    from launcher.commands.planned import document

    out.show(document(planned), show.planned(planned))
    if planned.argv and not out.as_json:
        out.data(f"\n{show.command_line(planned.argv)}\n")
    if planned.plan is None:
        raise typer.Exit(DoesNotFit.exit_code)
