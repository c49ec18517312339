"""Measure how fast planned models are, beside what was forecast: reserve, measure in turns, keep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.commands import engine as engines
from launcher.commands.bench.compare import against_baseline
from launcher.commands.bench.llama_bench import Rates, Tests, find_llama_bench, run_llama_bench, test_words
from launcher.commands.bench.report import Report
from launcher.commands.bench.through_api import measure_through_api
from launcher.commands.check import CheckRequest, check_command
from launcher.commands.here import Here
from launcher.commands.inspect import inspect
from launcher.commands.measurements import keep_measurement, last_measured, subject_of
from launcher.commands.plan_and_claim import plan_and_claim
from launcher.commands.planned import Planned, PlanRequest, compile_argv, files_to_bring, fitting
from launcher.commands.pull import fetch_all
from launcher.deployment import claims
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.bench_argv import bench_argv, speed_words
from launcher.engine.flags.help_text import Capabilities
from launcher.errors import NotFound, UsageError
from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.plan.check.pace import stages_of_check
from launcher.plan.forecast.benched import Benched, Samples, Speed
from launcher.plan.forecast.measured import base_of, basis_of, processors_of
from launcher.plan.placement.pace import laws_of
from launcher.plan.plan import Plan
from launcher.progress import Step

_LEAST_VOCABULARY = 97  # of every model: fill_context's tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    plan: PlanRequest
    depths: tuple[int, ...] = (0, 4096)
    prompt: int = 512
    reply: int = 64
    repetitions: int = 3
    against: str | None = None  # another engine: its path or name
    baseline: bool = False  # compared with the last measurement of the same line

    @property
    def tests(self) -> Tests:
        return Tests(depths=self.depths, prompt=self.prompt, reply=self.reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """An engine with the plan in its dialect."""

    commit: str
    line: Callable[[int], tuple[str, ...]]  # of llama-server, by port
    argv: tuple[str, ...]  # of llama-bench, without what is measured


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
        _check_depths(request, chosen)
        paths, *_ = fetch_all(here, files_to_bring(planned), ("launcher", "pull", located.model.model_id))
        subjects = [_subject(here, planned, chosen, each, paths[0]) for each in (engine, *others)]
        before = _baseline(here, request, planned, located.model, subjects[0])
        measured = _measure(here, request, subjects, _vocabulary(located.model))
    benched, *other = (
        _benched(here, request, planned, subject, rounds)
        for subject, rounds in zip(subjects, measured, strict=True)
    )
    gate = None if before is None else against_baseline(benched, before)
    # a run that was found slower is not what the next one is measured by
    for each in (*other, *(() if gate is not None and gate.is_slower else (benched,))):
        keep_measurement(here, each)
    return Report(planned=planned, benched=benched, other=next(iter(other), None), gate=gate)


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


def _check_depths(request: BenchRequest, plan: Plan) -> None:
    most = request.tests.most_tokens
    if most > plan.ctx_size:
        room = max(plan.ctx_size - request.prompt - request.reply, 0)
        raise UsageError(
            f"a depth of {max(request.depths)} tokens, a prompt of {request.prompt} and a reply of "
            f"{request.reply} are more than the context of {plan.ctx_size}",
            hint=f"--depth {room}, or a larger -c",
        )


def _subject(here: Here, planned: Planned, plan: Plan, engine: Engine, model: Path) -> _Subject:
    """Say the plan in an engine's dialect. Raises UsageError where it cannot be said there."""
    known: Capabilities = read_capabilities(engine, here.settings.cache_dir)
    its = replace(planned, engine=engine, capabilities=known)

    def line(port: int) -> tuple[str, ...]:
        serving = Serving(host="127.0.0.1", port=port, model_id=plan.model_id, model_path=str(model))
        return compile_argv(its, plan, serving)

    return _Subject(
        commit=known.version.commit or "unknown",
        line=line,
        argv=bench_argv(line(0)[1:], str(find_llama_bench(engine))),
    )


def _baseline(
    here: Here, request: BenchRequest, planned: Planned, model: ModelFile, subject: _Subject
) -> Benched | None:
    if not request.baseline:
        return None
    found = last_measured(here.settings, planned.machine, model, subject.line(0))
    if found is None:
        raise NotFound(
            f"no measurement of {model.model_id} as it is planned now is kept to compare with",
            hint=f"launcher bench {request.plan.ref}, before what may make it slower",
        )
    return found


def _vocabulary(model: ModelFile) -> int:
    return read_architecture(model.metadata, model.tensors).n_vocab or _LEAST_VOCABULARY


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """Rates by depth, of one repetition."""

    alone: Mapping[int, Rates]  # llama-bench's
    api: Mapping[int, Rates]


def _measure(
    here: Here, request: BenchRequest, subjects: Sequence[_Subject], n_vocab: int
) -> list[list[_Round]]:
    """Measure in turns, one load each: what disturbs this machine for a while disturbs all alike."""
    rounds: list[list[_Round]] = [[] for _ in subjects]
    serves = not request.plan.workload.embedding
    total = request.repetitions * len(subjects) * (2 if serves else 1)
    done = 0

    def tell(text: str) -> None:
        here.on_progress(Step(phase="bench", done=done, total=total, unit="runs", text=text))

    for number in range(request.repetitions):
        for kept, subject in zip(rounds, subjects, strict=True):
            tell(f"llama-bench of {subject.commit}")
            argv = (*subject.argv, *test_words(request.tests))
            alone = run_llama_bench(argv, here.env, request.tests)
            done += 1
            api: Mapping[int, Rates] = {}
            if serves:
                tell(f"the HTTP API of {subject.commit}")
                api = measure_through_api(subject.line, here.env, request.tests, n_vocab, seed=number)
                done += 1
            kept.append(_Round(alone=alone, api=api))
    tell("")
    return rounds


def _benched(
    here: Here, request: BenchRequest, planned: Planned, subject: _Subject, rounds: Sequence[_Round]
) -> Benched:
    chosen, located = fitting(planned)
    line = subject.line(0)
    verdict = check_command(here, CheckRequest(words=line, engine=request.plan.engine)).verdict
    stages = stages_of_check(verdict, located.model, planned.machine, threads=chosen.threads)
    rows = min(chosen.ubatch_size, chosen.batch_size)
    base = base_of(stages, rows, laws_of(chosen.dialect)) if stages else None
    speeds = []
    for depth in request.depths:
        at = base(depth, request.prompt) if base else None
        alone = [each.alone.get(depth, Rates()) for each in rounds]
        api = [each.api.get(depth, Rates()) for each in rounds]
        speeds.append(
            Speed(
                depth=depth,
                prompt=_samples(rates.prompt for rates in alone),
                reply=_samples(rates.reply for rates in alone),
                api_prompt=_samples(rates.prompt for rates in api),
                api_reply=_samples(rates.reply for rates in api),
                forecast_prompt=at.prefill if at else None,
                forecast_reply=at.decode if at else None,
            )
        )
    return Benched(
        subject=subject_of(planned, subject.commit),
        basis=basis_of(planned.machine),
        line=speed_words(line[1:]),
        processors=processors_of(stages),
        prompt_tokens=request.prompt,
        reply_tokens=request.reply,
        argv=(*subject.argv, *test_words(request.tests)),
        speeds=tuple(speeds),
    )


def _samples(rates: Iterator[float | None]) -> Samples | None:
    found = tuple(rate for rate in rates if rate is not None)
    return Samples(rates=found) if found else None
