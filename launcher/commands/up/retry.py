"""Bring a plan up, and plan again where memory ran out.

The planner is asked again with what was seen, at most three times, each time with a sentence; what saved a
launch is remembered for that very plan, engine and driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from launcher.commands.claims import driver_of
from launcher.commands.here import Here
from launcher.deployment import history
from launcher.deployment.history import Identity, RescueNote, plan_key
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
from launcher.system.json_object import JsonObject, Malformed

Start = Callable[[Plan, RescueNote], Deployment]
"""Brings this plan up; the note is what the supervisor writes into the history."""


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
    plan, correction, rescue = _as_remembered(here, launch)
    first = _identity(launch, launch.plan)
    for number in range(MOST_STEPS + 1):
        try:
            return launch.start(plan, rescue)
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
            rescue = RescueNote(saves=first, correction=_stored(correction), step=step.sentence)
    raise LauncherError("the last attempt neither came up nor failed")


def _as_remembered(here: Here, launch: Launch) -> tuple[Plan, Correction, RescueNote]:
    """Return the plan to begin with, corrected by what saved it before."""
    nothing = (launch.plan, Correction(), RescueNote())
    if not launch.retry:
        return nothing
    identity = _identity(launch, launch.plan)
    known = history.find_correction(history.read_history(here.settings.history_file), identity)
    if known is None:
        return nothing
    try:
        correction = _restored(JsonObject(known))
    except Malformed:  # a damaged line of the history saves nothing
        return nothing
    outcome = launch.replan(
        with_less_free(launch.machine, dict(correction.less)), with_correction(launch.workload, correction)
    )
    if not isinstance(outcome, Plan) or correction.ctx_size is not None:
        return nothing
    what = f"as it was saved before: {describe_difference(launch.plan, outcome)}"
    here.on_progress(Step(phase="save", done=0, total=None, unit="steps", text=what))
    rescue = RescueNote(saves=identity, correction=known, step=what)
    return replace(outcome, reasons=(*outcome.reasons, what)), correction, rescue


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


def _stored(correction: Correction) -> dict[str, object]:
    return {**asdict(correction), "less": [list(pair) for pair in correction.less]}


def _restored(given: JsonObject) -> Correction:
    return Correction(
        less=tuple(_pair(given, pair) for pair in (given.list_at("less") if given.has("less") else ())),
        ubatch_size=given.optional_whole("ubatch_size"),
        cache_type=given.choice("cache_type", CacheType) if given.has("cache_type") else None,
        ctx_size=given.optional_whole("ctx_size"),
    )


def _pair(given: JsonObject, pair: object) -> tuple[str, int]:
    match pair:
        case [str(where), int(n_bytes)]:
            return where, n_bytes
        case _:
            raise given.malformed("less", "is not a list of rows and bytes")
