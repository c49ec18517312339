"""`--engine vllm` of the commands that plan: from options to plans for vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from launcher.cli.here import here_with_progress
from launcher.cli.options.bundles import MachineOptions, PlanOptions
from launcher.cli.requests import machine_choice, workload_and_limits
from launcher.cli.show.output import Output
from launcher.cli.show.plan import fold_command_line
from launcher.cli.show.vllm import render_vllm
from launcher.commands.vllm.plan import VllmPlanned, plan_for_vllm, vllm_document
from launcher.errors import DoesNotFit

if TYPE_CHECKING:
    from launcher.commands.here import Here
    from launcher.machine.machine import Machine


_THIS_MACHINE = MachineOptions()


def show_plan_for_vllm(
    ref: str,
    flags: tuple[str, ...],
    plan_options: PlanOptions,
    out: Output,
    machine_options: MachineOptions = _THIS_MACHINE,
    file: Path | None = None,
) -> None:
    """Print the plan and its command lines. Exit with an error's code unless it surely fits."""
    with here_with_progress(out, offline=plan_options.offline) as here:
        planned = planned_for_vllm(here, ref, flags, plan_options, machine_options, file)
    out.show(vllm_document(planned), render_vllm(planned))
    if not planned.fits:
        raise typer.Exit(DoesNotFit.exit_code)
    if not out.as_json:
        for rank, argv in enumerate(planned.command_lines()):
            where = f"machine {rank + 1}:\n" if planned.plan.nodes > 1 else ""
            out.write(f"\n{where}{fold_command_line(argv)}\n")


def planned_for_vllm(
    here: Here,
    ref: str,
    flags: tuple[str, ...],
    plan_options: PlanOptions,
    machine_options: MachineOptions,
    file: Path | None = None,
) -> VllmPlanned:
    """Plan for vLLM from options; `file` names several machines."""
    workload, limits = workload_and_limits(plan_options)
    return plan_for_vllm(here, ref, workload, limits, flags, _machines_of(here, machine_options, file))


def _machines_of(here: Here, options: MachineOptions, file: Path | None) -> tuple[Machine, ...]:
    """Return the machines that options name, one for each."""
    from launcher.commands.plan_fleet import read_fleet
    from launcher.commands.probe import MachineChoice, probe

    if file is not None:
        return tuple(probe(here, MachineChoice(name=entry.ref)) for entry in read_fleet(file))
    if len(options.machine or ()) > 1:
        return tuple(probe(here, MachineChoice(name=name)) for name in options.machine or ())
    return (probe(here, machine_choice(options)),)
