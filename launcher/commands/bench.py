"""Measure how fast a planned model is, beside what was forecast."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launcher.commands.check import CheckRequest, check_command
from launcher.commands.here import Here
from launcher.commands.plan import plan
from launcher.commands.planned import PlanRequest, compile_argv, files_to_bring, fitting
from launcher.commands.pull import fetch_all
from launcher.deployment.history import HISTORY_LIMIT_BYTES
from launcher.engine.ask import run_to_its_end
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.engine.flags.bench_argv import bench_argv
from launcher.errors import EngineFailed, TryAgain, UsageError
from launcher.plan.check.pace import Point, forecast_check
from launcher.plan.forecast.turn import Band, Forecast
from launcher.progress import remark
from launcher.system.atomic_files import append_line

_TIMEOUT_S = 3600.0
_MOST_OUTPUT = 4 << 20  # bytes of llama-bench's JSON: 1.5 kB a test


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    plan: PlanRequest
    depths: tuple[int, ...] = (0, 4096)
    prompt: int = 512
    reply: int = 64
    repetitions: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Tokens/s of one test."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speeds after `depth` cached tokens, measured and forecast."""

    depth: int
    prompt: Samples | None
    reply: Samples | None
    forecast_prompt: Band | None
    forecast_reply: Band | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benched:
    date: str
    model_id: str
    quant: str
    engine: str  # its commit
    argv: tuple[str, ...]  # of llama-bench
    speeds: tuple[Speed, ...]


def bench(here: Here, request: BenchRequest) -> Benched:
    """Plan, bring the files, run llama-bench and keep the result.

    Raises DoesNotFit, UsageError where the engine has no llama-bench, EngineFailed where it ends badly.
    """
    planned = plan(here, request.plan)
    chosen, located = fitting(planned)
    if planned.engine is None:
        raise UsageError("there is no engine to measure with", hint="launcher engine install")
    program = _program(planned.engine)
    if max(request.depths) + request.prompt > chosen.ctx_size:
        raise UsageError(
            f"a depth of {max(request.depths)} tokens and a prompt of {request.prompt} are more than the "
            f"context of {chosen.ctx_size}",
            hint=f"--depth {max(chosen.ctx_size - request.prompt, 0)}, or a larger -c",
        )
    paths, *_ = fetch_all(here, files_to_bring(planned), ("launcher", "pull", located.model.model_id))
    serving = Serving(host="127.0.0.1", port=0, model_id=chosen.model_id, model_path=str(paths[0]))
    line = compile_argv(planned, chosen, serving)
    argv = (*bench_argv(line[1:], str(program)), *_tests(request))
    depths = " and ".join(map(str, request.depths))
    here.on_progress(remark("bench", f"llama-bench measures {chosen.model_id} after {depths} tokens"))
    measured = _run(argv, here.env)
    verdict = check_command(here, CheckRequest(words=line, engine=request.plan.engine)).verdict

    def forecast(point: Point) -> Forecast | None:
        return forecast_check(verdict, located.model, planned.machine, threads=chosen.threads, at=point)

    known = planned.capabilities
    benched = Benched(
        date=datetime.now(UTC).date().isoformat(),
        model_id=chosen.model_id,
        quant=chosen.quant,
        engine=(known.version.commit if known else None) or "unknown",
        argv=argv,
        speeds=tuple(
            _speed(Point(depth=depth, prompt=request.prompt), measured, forecast) for depth in request.depths
        ),
    )
    _keep(here, benched)
    return benched


def _program(engine: Engine) -> Path:
    program = engine.path.with_name("llama-bench")
    if not os.access(program, os.X_OK):
        raise UsageError(f"{engine.path} has no llama-bench beside it", hint="launcher engine build")
    return program


def _tests(request: BenchRequest) -> tuple[str, ...]:
    depths = ",".join(map(str, request.depths))
    prompt, reply, times = map(str, (request.prompt, request.reply, request.repetitions))
    return ("-p", prompt, "-n", reply, "-d", depths, "-r", times, "-o", "json")


def _run(argv: Sequence[str], env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Run llama-bench and return its tests."""
    done = run_to_its_end(argv, env, _TIMEOUT_S, hint="fewer --depth")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        raise EngineFailed(f"llama-bench ended with status {done.returncode}: {lines[-1][:300]}")
    try:
        tests = json.loads(done.stdout[:_MOST_OUTPUT])
    except ValueError as error:
        raise EngineFailed("llama-bench printed no JSON", hint="launcher engine build") from error
    return [test for test in tests if isinstance(test, dict)] if isinstance(tests, list) else []


def _speed(
    point: Point, tests: Sequence[Mapping[str, Any]], forecast: Callable[[Point], Forecast | None]
) -> Speed:
    here = [test for test in tests if test.get("n_depth") == point.depth]
    predicted = forecast(point)
    return Speed(
        depth=point.depth,
        prompt=_samples(next((test for test in here if test.get("n_prompt")), None)),
        reply=_samples(next((test for test in here if test.get("n_gen")), None)),
        forecast_prompt=predicted.prefill if predicted else None,
        forecast_reply=predicted.decode if predicted else None,
    )


def _samples(test: Mapping[str, Any] | None) -> Samples | None:
    rates = [float(rate) for rate in (test or {}).get("samples_ts", ()) if isinstance(rate, int | float)]
    if not rates:
        return None
    return Samples(median=statistics.median(rates), low=min(rates), high=max(rates))


def bench_document(benched: Benched) -> dict[str, Any]:
    """Return the measurement as versioned JSON."""
    return {"schema": 1, **asdict(benched), "argv": list(benched.argv)}


def _keep(here: Here, benched: Benched) -> None:
    file = here.settings.state_dir / "bench.jsonl"
    try:
        append_line(file, json.dumps(bench_document(benched)), HISTORY_LIMIT_BYTES)
    except OSError as error:
        raise TryAgain(f"{file} cannot be written: {error.strerror}", hint="launcher doctor") from error
