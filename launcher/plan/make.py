"""The planner for one quant: a model, a machine and a wish in; a plan that fits, or what is missing, out."""

from __future__ import annotations

from dataclasses import replace

from launcher.errors import LauncherError
from launcher.gguf.architecture import read_architecture
from launcher.machine import Machine
from launcher.model import ModelFile
from launcher.plan.arrange import Arrangement, Case, arrange
from launcher.plan.budget import read_budgets
from launcher.plan.companions import NO_COMPANIONS, Companions
from launcher.plan.compose import compose
from launcher.plan.plan import Limits, Plan, Shortfall, Workload
from launcher.plan.settle import choose_contexts, settle
from launcher.plan.shortfall import explain_shortfall
from launcher.plan.weights import weigh


def make_plan(
    model: ModelFile,
    quant: str,
    machine: Machine,
    workload: Workload,
    *,
    default_ctx: int | None = None,
    limits: Limits | None = None,
) -> Plan | Shortfall:
    """The plan for this quant on this machine, the usual batch sizes and caches where none were asked for.

    `default_ctx` is the profile's, for when no context was asked for. Raises UsageError for wishes that
    contradict each other or the model, BadGguf for a model llama.cpp refuses.
    """
    case = read_case(model, quant, machine, limits)
    contexts = choose_contexts(case.architecture, workload, default_ctx)
    first: Arrangement | None = None
    for size in contexts.sizes:
        arrangement = arrange(case, settle(case.architecture, workload, size), workload)
        if arrangement.fits:
            return compose(case, workload, arrangement, contexts.reason_for(size))
        first = first or arrangement
    if first is None:
        raise LauncherError("no context was tried")
    return explain_shortfall(case, workload, first)


def read_case(
    model: ModelFile,
    quant: str,
    machine: Machine,
    limits: Limits | None = None,
    companions: Companions = NO_COMPANIONS,
) -> Case:
    """A model on a machine, and what is loaded beside it, read once."""
    architecture = read_architecture(model.metadata, model.tensors)
    limits = limits or Limits()
    budgets = read_budgets(machine, limits)
    return Case(
        model=model,
        quant=quant,
        machine=machine,
        architecture=architecture,
        weights=weigh(architecture, model.tensors, {budget.device.backend for budget in budgets.devices}),
        budgets=budgets,
        all_budgets=read_budgets(machine, replace(limits, gpus=None)),
        companions=companions,
    )
