"""Plan one model for several machines, and put the plans side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.commands.here import Here
from launcher.commands.inspect import inspect, opened_once
from launcher.commands.plan import plan_resolved
from launcher.commands.planned import Planned, PlanRequest
from launcher.commands.probe import THIS_MACHINE, MachineChoice
from launcher.errors import UsageError
from launcher.plan.as_json import forecast_json
from launcher.plan.forecast.measured import base_of, scaled
from launcher.plan.placement.pace import laws_of

HERE = "here"
MOST_MACHINES = 24
_FIRST = 1024  # tokens of depth, doubled from here on


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What one machine does with the model."""

    machine: str
    planned: Planned

    @property
    def lack(self) -> str | None:
        """What is missing where it does not fit."""
        short = self.planned.choice.shortfall
        return None if short is None else short.lack

    @property
    def decode_by_depth(self) -> tuple[tuple[int, float], ...]:
        """Tokens/s after 0, 1024, 2048, … cached tokens, up to the context; nothing without a plan."""
        plan, stages = self.planned.plan, self.planned.choice.stages
        if plan is None or not stages:
            return ()
        base = base_of(stages, plan.n_tokens, laws_of(plan.dialect))
        depths = [0, *(_FIRST << step for step in range(24) if _FIRST << step < plan.ctx_size)]
        ratios = self.planned.machine.speed_ratios
        return tuple(
            (depth, scaled(base(depth, 1), stages, ratios).decode.mid) for depth in (*depths, plan.ctx_size)
        )


def compare_machines(here: Here, request: PlanRequest, names: Sequence[str]) -> tuple[Compared, ...]:
    """Plan for each machine, `here` for this one; the model is looked up once.

    Raises UsageError for too many machines, NotFound for a name nobody knows.
    """
    if len(names) > MOST_MACHINES:
        raise UsageError(
            f"{len(names)} machines are more than are compared at once ({MOST_MACHINES})",
            hint="leave some of them out",
        )
    target = opened_once(inspect(here, request.ref, request.quant))
    return tuple(
        Compared(machine=name, planned=plan_resolved(here, replace(request, machine=_choice(name)), target))
        for name in dict.fromkeys(names)
    )


def comparison_document(compared: Sequence[Compared]) -> dict[str, Any]:
    """Return the comparison as versioned JSON, the machines in the order given."""
    return {"schema": 1, "machines": [_row(one) for one in compared]}


def fits_somewhere(compared: Sequence[Compared]) -> bool:
    return any(one.planned.plan is not None for one in compared)


def _choice(name: str) -> MachineChoice:
    return THIS_MACHINE if name == HERE else MachineChoice(name=name)


def _row(one: Compared) -> dict[str, Any]:
    plan = one.planned.plan
    return {
        "machine": one.machine,
        "fits": None if plan is not None and plan.unverified is not None else plan is not None,
        "quant": plan.quant if plan else None,
        "context": plan.ctx_size if plan else None,
        "devices": list(plan.placement.devices) if plan else None,
        "forecast": forecast_json(plan.forecast) if plan else None,
        "decode_by_depth": [
            {"depth": depth, "decode_tps": round(rate, 2)} for depth, rate in one.decode_by_depth
        ],
        "lack": one.lack,
    }
