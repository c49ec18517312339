"""Tune a model: let the tuner say what is tried next, carry it out, keep what won."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.commands import engine as engines
from launcher.commands.here import Here
from launcher.commands.inspect import inspect, opened_once
from launcher.commands.measurements import subject_of
from launcher.commands.planned import Planned, PlanRequest, files_to_bring, fitting
from launcher.commands.pull import fetch_all
from launcher.commands.tune.prompts import Prompts, random_prompts, read_prompts
from launcher.commands.tune.report import Report
from launcher.commands.tune.trial import Bench, carry_out, plan_trial
from launcher.commands.tuned import keep_tuned
from launcher.deployment import claims
from launcher.engine.flags.user_flags import split_flags
from launcher.errors import DoesNotFit, EngineFailed
from launcher.gguf.architecture import Architecture, read_architecture
from launcher.plan.tuning.settings import Setting, Start, settings_to_try
from launcher.plan.tuning.tuned import Tuned
from launcher.plan.tuning.tuner import PLAN, Outcome, State, Try, begin, step, words_of
from launcher.progress import Step, remark

_LEAST_VOCABULARY = 97  # of every model


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRequest:
    plan: PlanRequest
    budget_s: float = 600.0
    traffic: Path | None = None
    prompt: int = 512
    reply: int = 64


def tune(here: Here, request: TuneRequest) -> Report:
    """Try settings within the time, one after the other, and keep the winner for the next plans.

    Whatever ends it, nothing that it started runs on. Raises DoesNotFit, UsageError, and EngineFailed where
    the plan itself cannot be measured.
    """
    engine = engines.find(here, request.plan.engine)
    asked = replace(request.plan, untuned=True)
    target = opened_once(inspect(here, asked.ref, asked.quant))
    name = f"tune-{os.getpid()}"
    key = claims.claim_key(here.settings.deployments_dir, name)
    try:
        bench = Bench(here=here, request=asked, target=target, engine=engine, claimed=(key, name))
        planned = _first_plan(bench)
        report = _drive(bench, request, planned)
    finally:
        claims.drop_claim(here.settings.claims_dir, key)
    keep_tuned(here, report.tuned)
    return report


def _first_plan(bench: Bench) -> Planned:
    """Plan without any settings, bring the files, and stay with the quant that was chosen."""
    planned = plan_trial(bench, PLAN)
    if isinstance(planned, str):
        raise DoesNotFit(planned, hint=f"launcher plan {bench.request.ref}")
    chosen, located = fitting(planned)
    command = ("launcher", "pull", located.model.model_id)
    bench.model = fetch_all(bench.here, files_to_bring(planned), command)[0][0]
    bench.target = bench.target.of_quant(chosen.quant)
    return planned


def _drive(bench: Bench, request: TuneRequest, planned: Planned) -> Report:
    """Carry out what the tuner asks for, one trial at a time: nobody else writes its state."""
    chosen, located = fitting(planned)
    architecture = read_architecture(located.model.metadata, located.model.tensors)
    bench.prompts = _prompts(request, architecture)
    following: Try | Outcome
    state, following = begin(_settings(planned, architecture, bench.prompts), request.budget_s)
    begun = time.monotonic()
    while isinstance(following, Try):
        _tell(bench.here, state, following, time.monotonic() - begun)
        before = state
        state, following = step(state, carry_out(bench, following))
        _tell_best(bench.here, before, state)
    if state.stopped is not None:
        raise EngineFailed(f"the plan itself could not be measured: {state.stopped}", hint="launcher bench")
    tuned = Tuned(
        subject=subject_of(chosen, located.model, planned.machine, _commit(planned)),
        words=words_of(following.winner),
        ratio=following.ratio,
        workload=bench.prompts.words,
    )
    return Report(tuned=tuned, state=state, outcome=following)


def _commit(planned: Planned) -> str:
    return (planned.capabilities.version.commit if planned.capabilities else None) or "unknown"


def _prompts(request: TuneRequest, architecture: Architecture) -> Prompts:
    if request.traffic is not None:
        return read_prompts(request.traffic, request.reply)
    return random_prompts(architecture.n_vocab or _LEAST_VOCABULARY, request.prompt, request.reply)


def _settings(planned: Planned, architecture: Architecture, prompts: Prompts) -> tuple[Setting, ...]:
    plan, _ = fitting(planned)
    known = planned.capabilities
    given = {name: words[-1] for name, words in split_flags(planned.argv[1:])}
    threads = _number(given.get("-t"), plan.threads)
    start = Start(
        plan=plan,
        threads=threads,
        batch_threads=_number(given.get("-tb"), threads),
        takes=known.takes if known else lambda _flag, _value: True,
        drafts="--spec-type" in given,
        has_mtp=bool(architecture.n_nextn),
        has_experts=architecture.n_expert > 0,
        knows_prompts=prompts.are_users,
        longest_prompt=prompts.longest,
    )
    return settings_to_try(start, planned.machine)


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else otherwise


def _tell(here: Here, state: State, following: Try, elapsed_s: float) -> None:
    best, ratio = state.best
    so_far = f"; best {ratio:.2f} x" if best != PLAN else ""
    text = f"{' '.join(words_of(following.trial)) or 'the plan itself'}{so_far}"
    done = round(min(elapsed_s, state.budget_s))
    here.on_progress(Step(phase="tune", done=done, total=round(state.budget_s), unit="s", text=text))


def _tell_best(here: Here, before: State, now: State) -> None:
    """Say a new best once: the line of progress has no room for its words."""
    best, ratio = now.best
    if best not in {before.best[0], PLAN}:
        here.on_progress(remark("tune", f"{' '.join(words_of(best))}: {ratio:.2f} x the plan so far"))
