"""Bring a plan up, and plan again where memory ran out.

The planner is asked again with what was seen, at most three times, each time with a sentence; what saved a
launch is remembered for that very plan, engine and driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from launcher.commands.claims import driver_of
from launcher.commands.here import Here
from launcher.deployment import history
from launcher.deployment.history import Identity, plan_key
from launcher.deployment.record import Deployment
from launcher.deployment.supervisor.ready import LoadFailed
from launcher.engine.log.cause import MEMORY_KINDS
from launcher.errors import LauncherError
from launcher.machine.machine import Machine
from launcher.plan.modes import CacheType
from launcher.plan.plan import Plan
from launcher.plan.search.rescue import (
    MOST_STEPS,
    Correction,
    ExhaustedRow,
    Replan,
    Rescue,
    describe_difference,
    find_rescues,
    with_correction,
    with_less_free,
)
from launcher.plan.workload import Workload
from launcher.progress import Step

Start = Callable[[Plan, Mapping[str, Any]], Deployment]
"""Brings this plan up; the mapping is what the supervisor writes into the history beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A plan to bring up, and how to plan again for its machine and workload."""

    plan: Plan
    machine: Machine
    workload: Workload
    replan: Replan
    start: Start
    engine_sha256: str | None
    # False: the first failure is the last word
    retry: bool = True


def launch_or_rescue(here: Here, launch: Launch) -> Deployment:
    """Bring the plan up, or one that was made because it failed. Raises what `launch.start` raises."""
    plan, correction, notes = _as_remembered(here, launch)
    first = _identity(launch, launch.plan)
    for number in range(MOST_STEPS + 1):
        try:
            return launch.start(plan, notes)
        except LoadFailed as error:
            step = _next(launch, plan, correction, error) if launch.retry and number < MOST_STEPS else None
            if step is None:
                raise
            _ask(here, step, error)
            why = f"{error.cause.sentence}; trying again: {step.sentence} ({number + 1} of {MOST_STEPS})"
            here.on_progress(Step(phase="save", done=number + 1, total=None, unit="steps", text=why))
            correction = step.correction
            plan = replace(
                step.plan, reasons=(*step.plan.reasons, f"{error.cause.sentence}: {step.sentence}")
            )
            notes = {"saves": asdict(first), "correction": _stored(correction), "step": step.sentence}
    raise LauncherError("the last attempt neither came up nor failed")


def _as_remembered(here: Here, launch: Launch) -> tuple[Plan, Correction, dict[str, Any]]:
    """Return the plan to begin with, corrected by what saved it before."""
    nothing: tuple[Plan, Correction, dict[str, Any]] = (launch.plan, Correction(), {})
    if not launch.retry:
        return nothing
    identity = _identity(launch, launch.plan)
    known = history.find_correction(history.read_history(here.settings.history_file), identity)
    if known is None:
        return nothing
    correction = _restored(known)
    outcome = launch.replan(
        with_less_free(launch.machine, dict(correction.less)), with_correction(launch.workload, correction)
    )
    if not isinstance(outcome, Plan) or correction.ctx_size is not None:
        return nothing
    what = f"as it was saved before: {describe_difference(launch.plan, outcome)}"
    here.on_progress(Step(phase="save", done=0, total=None, unit="steps", text=what))
    notes = {"saves": asdict(identity), "correction": dict(known), "step": what}
    return replace(outcome, reasons=(*outcome.reasons, what)), correction, notes


def _next(launch: Launch, failed: Plan, correction: Correction, error: LoadFailed) -> Rescue | None:
    if error.cause.kind not in MEMORY_KINDS:
        return None
    exhausted = ExhaustedRow(
        where=error.cause.where, need_bytes=error.cause.need_bytes, had_bytes=error.cause.had_bytes
    )
    return next(
        find_rescues(failed, exhausted, launch.machine, launch.workload, correction, launch.replan), None
    )


def _ask(here: Here, step: Rescue, error: LoadFailed) -> None:
    """Ask before a context is shortened: it is a requirement. Raises `error` where the answer is no."""
    if step.needs_consent and not here.consent(f"{error.cause.sentence}. Go on with {step.sentence}?"):
        error.hint = f"-c {step.plan.ctx_size} would fit; {error.hint}"
        raise error


def _identity(launch: Launch, plan: Plan) -> Identity:
    return Identity(plan=plan_key(plan), engine=launch.engine_sha256, driver=driver_of(launch.machine))


def _stored(correction: Correction) -> dict[str, Any]:
    return {**asdict(correction), "less": [list(pair) for pair in correction.less]}


def _restored(given: Mapping[str, Any]) -> Correction:
    cache_type = given.get("cache_type")
    return Correction(
        less=tuple((str(where), int(size)) for where, size in given.get("less") or ()),
        ubatch_size=given.get("ubatch_size"),
        cache_type=None if cache_type is None else CacheType(cache_type),
        ctx_size=given.get("ctx_size"),
    )
