"""Measure how fast planned models are, beside what was forecast: reserve, measure in turns, keep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.commands import engine as engines
from launcher.commands.bench.baseline import find_baseline, keep_by
from launcher.commands.bench.llama_bench import Rates, Tests, find_llama_bench, run_llama_bench, test_words
from launcher.commands.bench.report import Report
from launcher.commands.bench.rounds import Line, Loaded, Round, as_benched, check_depths
from launcher.commands.bench.through_api import measure_through_api
from launcher.commands.here import Here
from launcher.commands.inspect import inspect
from launcher.commands.measurements import keep_measurement
from launcher.commands.plan_and_claim import plan_and_claim
from launcher.commands.planned import Planned, PlanRequest, compile_argv, files_to_bring, fitting
from launcher.commands.pull import fetch_all
from launcher.deployment import claims
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.bench_argv import bench_argv
from launcher.progress import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    plan: PlanRequest
    tests: Tests
    against: str | None = None  # another engine: its path or name
    baseline: bool = False  # compared with the last measurement of the same line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """An engine with the plan in its dialect."""

    line: Line  # of port 0
    at_port: Callable[[int], tuple[str, ...]]


def bench(here: Here, request: BenchRequest) -> Report:
    """Plan, reserve the memory, bring the files, measure each engine in turns, keep the result.

    Raises DoesNotFit, UsageError where an engine has no llama-bench, EngineFailed where it ends badly,
    NotFound for a baseline that is not there.
    """
    engine = engines.find(here, request.plan.engine)
    others = () if request.against is None else (engines.find(here, Path(request.against)),)
    for each in (engine, *others):
        find_llama_bench(each)
    with _planned(here, request.plan, engine) as planned:
        chosen, located = fitting(planned)
        check_depths(request.tests, chosen.ctx_size)
        paths, *_ = fetch_all(here, files_to_bring(planned), ("launcher", "pull", located.model.model_id))
        loaded = Loaded(plan=chosen, model=located.model, machine=planned.machine)
        subjects = [_subject(here, planned, request, each, paths[0]) for each in (engine, *others)]
        line, tests = subjects[0].line, request.tests
        before = find_baseline(here, loaded, line, tests, request.plan.ref) if request.baseline else None
        measured = _measure(here, request, subjects, loaded.n_vocab)
    benched, *other = (
        as_benched(here, loaded, subject.line, tests, rounds)
        for subject, rounds in zip(subjects, measured, strict=True)
    )
    for each in other:
        keep_measurement(here, each)
    gate = keep_by(here, benched, before)
    return Report(
        loaded=loaded, benched=benched, other=next(iter(other), None), against=request.against, gate=gate
    )


@contextmanager
def _planned(here: Here, request: PlanRequest, engine: Engine) -> Iterator[Planned]:
    """Plan in what nobody has reserved, and hold the plan's memory for the block."""
    name = f"bench-{os.getpid()}"
    key = claims.claim_key(here.settings.deployments_dir, name)
    target = inspect(here, request.ref, request.quant)
    try:
        yield plan_and_claim(here, request, target, engine, (key, name))[0]
    finally:
        claims.drop_claim(here.settings.claims_dir, key)


def _subject(here: Here, planned: Planned, request: BenchRequest, engine: Engine, model: Path) -> _Subject:
    """Say the plan in an engine's dialect. Raises UsageError where it cannot be said there."""
    plan, _ = fitting(planned)
    known = read_capabilities(engine, here.settings.cache_dir)
    its = replace(planned, engine=engine, capabilities=known)

    def line(port: int) -> tuple[str, ...]:
        serving = Serving(host="127.0.0.1", port=port, model_id=plan.model_id, model_path=str(model))
        return compile_argv(its, plan, serving)

    words = line(0)
    of_bench = bench_argv(words[1:], str(find_llama_bench(engine)))
    return _Subject(
        at_port=line,
        line=Line(
            commit=known.version.commit or "unknown",
            words=words,
            bench_words=(*of_bench, *test_words(request.tests)),
            engine=engine,
            dialect=known.dialect,
        ),
    )


def _measure(
    here: Here, request: BenchRequest, subjects: Sequence[_Subject], n_vocab: int
) -> list[list[Round]]:
    """Measure in turns, one load each: what disturbs this machine for a while disturbs all alike."""
    rounds: list[list[Round]] = [[] for _ in subjects]
    serves = not request.plan.workload.embedding
    total = request.tests.repetitions * len(subjects) * (2 if serves else 1)
    done = 0

    def tell(text: str) -> None:
        here.on_progress(Step(phase="bench", done=done, total=total, unit="runs", text=text))

    for number in range(request.tests.repetitions):
        for kept, subject in zip(rounds, subjects, strict=True):
            tell(f"llama-bench of {subject.line.commit}")
            alone = run_llama_bench(subject.line.bench_words, here.env, request.tests)
            done += 1
            api: Mapping[int, Rates] = {}
            if serves:
                tell(f"the HTTP API of {subject.line.commit}")
                api = measure_through_api(subject.at_port, here.env, request.tests, n_vocab, seed=number)
                done += 1
            kept.append(Round(alone=alone, api=api))
    tell("")
    return rounds
