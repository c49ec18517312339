"""Carry out one trial: plan it, reserve its memory, serve it, time it, end it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.commands.claims import claim, claim_rows
from launcher.commands.here import Here
from launcher.commands.plan_and_claim import plan_and_claim
from launcher.commands.planned import Planned, PlanRequest, compile_argv
from launcher.commands.short_server import short_server
from launcher.commands.tune.prompts import NO_PROMPTS, Prompt, Prompts
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.user_flags import without_flags
from launcher.engine.timed import time_completion
from launcher.errors import EngineFailed, LauncherError
from launcher.models.catalogue import Target
from launcher.plan.plan import Plan
from launcher.plan.tuning.tuner import PLAN, Event, Measured, Refused, Trial, Try, words_of

_LOAD_S = 1800.0
_WARM_UP = Prompt(text="Hi", reply=4)  # the first request pays for what no other does


@dataclass(slots=True)
class Bench:
    """What all trials share; `planned` remembers what was planned for each."""

    here: Here
    request: PlanRequest
    target: Target
    engine: Engine
    claimed: tuple[str, str]  # key and name of the claim that is held
    prompts: Prompts = NO_PROMPTS
    model: Path | None = None
    planned: dict[Trial, Planned | str] = field(default_factory=dict)


def carry_out(bench: Bench, wanted: Try) -> Event:
    """Measure a trial, or say why it cannot be; nothing of it is left running, however this ends."""
    begun = time.monotonic()
    planned = plan_trial(bench, wanted.trial)
    if isinstance(planned, str):
        return Refused(trial=wanted.trial, why=planned, took_s=time.monotonic() - begun)
    prompts = bench.prompts.held_out if wanted.held_out else bench.prompts.chosen_by
    try:
        rates = _serve(bench, planned, prompts, wanted)
    except EngineFailed as error:
        return Refused(trial=wanted.trial, why=error.message, took_s=time.monotonic() - begun)
    return Measured(trial=wanted.trial, rates=rates, took_s=time.monotonic() - begun)


def plan_trial(bench: Bench, trial: Trial) -> Planned | str:
    """Plan a trial in the memory that nobody has reserved, and reserve it; or say why it is refused."""
    here, (key, name) = bench.here, bench.claimed
    known = bench.planned.get(trial)
    if known is None:
        known = bench.planned[trial] = _planned(bench, trial)
    elif isinstance(known, Planned) and known.plan is not None:
        claim(here, key, name, claim_rows(known.plan, known.machine), os.getpid())
    return known


def _planned(bench: Bench, trial: Trial) -> Planned | str:
    words = words_of(trial)
    workload, flags = without_flags(words, bench.request.workload, bench.request.flags)
    request = replace(bench.request, workload=workload, flags=(*flags, *words))
    if trial == PLAN:
        request = bench.request
    try:
        planned, _ = plan_and_claim(bench.here, request, bench.target, bench.engine, bench.claimed)
        if planned.plan is None:
            short = planned.choice.shortfall
            return "it does not fit" if short is None else f"it does not fit: {short.lack}"
        if planned.plan.unverified is not None and trial != PLAN:
            return f"that it fits is not verified: {planned.plan.unverified}"
        _line(planned, planned.plan, bench.model or Path("m.gguf"))(0)
    except LauncherError as error:
        if trial == PLAN:
            raise
        return error.message
    return planned


def _serve(bench: Bench, planned: Planned, prompts: Sequence[Prompt], wanted: Try) -> tuple[float, ...]:
    """Return workloads per second, measured so many times in one load. Raises EngineFailed."""
    plan, env, model = planned.plan, bench.here.env, bench.model
    if plan is None or model is None:
        raise EngineFailed("there is no plan or no file to try")
    rates = []
    with short_server(_line(planned, plan, model), env, _LOAD_S, end_after_s=wanted.limit_s) as url:
        _seconds(url, [_WARM_UP])
        rates = [1 / _seconds(url, prompts) for _ in range(wanted.times)]
    return tuple(rates)


def _line(planned: Planned, plan: Plan, model: Path) -> Callable[[int], tuple[str, ...]]:
    def line(port: int) -> tuple[str, ...]:
        serving = Serving(host="127.0.0.1", port=port, model_id=plan.model_id, model_path=str(model))
        return compile_argv(planned, plan, serving)

    return line


def _seconds(url: str, prompts: Sequence[Prompt]) -> float:
    return sum(time_completion(url, prompt.text, prompt.reply, cached=False).seconds for prompt in prompts)
