"""A plan brought up, and saved where memory ran out: the planner is asked again with what was seen, at most three
times, each time with a sentence; what saved it is remembered for that very plan, engine and driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from launcher.commands.claims import driver_of
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
from launcher.progress import OnProgress, Step

Start = Callable[[Plan, Mapping[str, Any]], Deployment]
"""Brings this plan up; the mapping is what the supervisor notes in the history beside it."""

Consent = Callable[[str], bool]
"""Asks for what must not be done unasked; False where nobody is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is brought up: the first plan, the machine and wish it was made for, and how to plan again.

    `engine` is the binary's sha256. `retry` False: the first failure is the last word.
    """

    plan: Plan
    machine: Machine
    workload: Workload
    replan: Replan
    start: Start
    history: Path
    engine: str | None
    retry: bool = True


def bring_up_or_save(case: Case, on_progress: OnProgress, consent: Consent) -> Deployment:
    """The deployment, of the plan or of one that was made because it failed. Raises what `case.start` raises."""
    plan, correction, notes = _as_remembered(case, on_progress)
    first = _identity(case, case.plan)
    for number in range(MOST_STEPS + 1):
        try:
            return case.start(plan, notes)
        except LoadFailed as error:
            step = _next(case, plan, correction, error) if case.retry and number < MOST_STEPS else None
            if step is None:
                raise
            _ask(step, error, consent)
            why = f"{error.cause.sentence}; trying again: {step.sentence} ({number + 1} of {MOST_STEPS})"
            on_progress(Step(phase="save", done=number + 1, total=None, unit="steps", text=why))
            correction = step.correction
            plan = replace(
                step.plan, reasons=(*step.plan.reasons, f"{error.cause.sentence}: {step.sentence}")
            )
            notes = {"saves": asdict(first), "correction": _stored(correction), "step": step.sentence}
    raise LauncherError("the last attempt neither came up nor failed")


def _as_remembered(case: Case, on_progress: OnProgress) -> tuple[Plan, Correction, dict[str, Any]]:
    """The plan to begin with: corrected where this very plan was saved by that before."""
    nothing: tuple[Plan, Correction, dict[str, Any]] = (case.plan, Correction(), {})
    if not case.retry:
        return nothing
    identity = _identity(case, case.plan)
    known = history.find_correction(history.read_history(case.history), identity)
    if known is None:
        return nothing
    correction = _restored(known)
    outcome = case.replan(
        with_less_free(case.machine, dict(correction.less)), with_correction(case.workload, correction)
    )
    if not isinstance(outcome, Plan) or correction.ctx_size is not None:
        return nothing
    what = f"as it was saved before: {describe_difference(case.plan, outcome)}"
    on_progress(Step(phase="save", done=0, total=None, unit="steps", text=what))
    notes = {"saves": asdict(identity), "correction": dict(known), "step": what}
    return replace(outcome, reasons=(*outcome.reasons, what)), correction, notes


def _next(case: Case, failed: Plan, correction: Correction, error: LoadFailed) -> Rescue | None:
    if error.cause.kind not in MEMORY_KINDS:
        return None
    exhausted = ExhaustedRow(
        where=error.cause.where, need_bytes=error.cause.need_bytes, had_bytes=error.cause.had_bytes
    )
    return next(find_rescues(failed, exhausted, case.machine, case.workload, correction, case.replan), None)


def _ask(step: Rescue, error: LoadFailed, consent: Consent) -> None:
    """A context is a requirement: it is never shortened unasked."""
    if step.needs_consent and not consent(f"{error.cause.sentence}. Go on with {step.sentence}?"):
        error.hint = f"-c {step.plan.ctx_size} would fit; {error.hint}"
        raise error


def _identity(case: Case, plan: Plan) -> Identity:
    return Identity(plan=plan_key(plan), engine=case.engine, driver=driver_of(case.machine))


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
