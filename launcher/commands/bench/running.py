"""Measure a deployment that runs, as its clients see it."""

from __future__ import annotations

from pathlib import Path

from launcher.commands import engine as engines
from launcher.commands.bench.baseline import find_baseline, keep_by
from launcher.commands.bench.llama_bench import Tests
from launcher.commands.bench.report import Report
from launcher.commands.bench.rounds import Line, Loaded, Round, as_benched, check_depths
from launcher.commands.bench.through_api import measure_server
from launcher.commands.here import Here
from launcher.commands.probe import probe
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.status import DeploymentState, read_status
from launcher.engine.find import Engine
from launcher.engine.flags.taskset import split_taskset
from launcher.engine.key_file import read_api_key
from launcher.errors import TryAgain, UsageError
from launcher.models.local import open_path
from launcher.plan.modes import Dialect
from launcher.progress import Step


def bench_running(here: Here, deployment: Deployment, tests: Tests, *, baseline: bool = False) -> Report:
    """Measure a deployment through its HTTP API; nothing is loaded, and nothing ends.

    Raises TryAgain for one that is not ready, UsageError for one without a plan, and as `bench`.
    """
    loaded, line = _loaded(here, deployment), _line(here, deployment)
    check_depths(tests, loaded.plan.ctx_size)
    if loaded.plan.embedding:
        raise UsageError(f"{deployment.name} makes embeddings: it has no replies to time", hint="launcher ps")
    key = read_api_key(deployment.api_key_file)
    before = find_baseline(here, loaded, line, tests, deployment.name) if baseline else None
    rounds = []
    for number in range(tests.repetitions):
        step = Step(phase="bench", done=number, total=tests.repetitions, unit="runs", text=deployment.name)
        here.on_progress(step)
        rates = measure_server(deployment.url, tests, loaded.n_vocab, seed=number, api_key=key)
        rounds.append(Round(api=rates))
    benched = as_benched(here, loaded, line, tests, rounds)
    return Report(loaded=loaded, benched=benched, gate=keep_by(here, benched, before))


def _loaded(here: Here, deployment: Deployment) -> Loaded:
    state = read_status(deployment).state
    if state is not DeploymentState.RUNNING or deployment.phase is not Phase.READY:
        raise TryAgain(f"{deployment.name} is {state}: only what is ready can be timed", hint="launcher ps")
    if deployment.plan is None:
        raise UsageError(
            f"the plan of {deployment.name} cannot be read: {deployment.stored_plan.problem}",
            hint=f"launcher restart {deployment.name}",
        )
    model = open_path(Path(deployment.model_path)).model
    return Loaded(plan=deployment.plan, model=model, machine=probe(here, engine=_engine(here, deployment)))


def _engine(here: Here, deployment: Deployment) -> Engine:
    return engines.find(here, Path(deployment.engine_path))


def _line(here: Here, deployment: Deployment) -> Line:
    _, words = split_taskset(deployment.argv)
    commit = deployment.engine_commit or "unknown"
    dialect = deployment.plan.dialect if deployment.plan else Dialect.LLAMA_CPP
    return Line(commit=commit, words=words, engine=_engine(here, deployment), dialect=dialect)
