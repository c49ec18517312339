"""Measured beside forecast, by the real llama-bench."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from launcher.commands.bench import llama_bench
from launcher.commands.bench.bench import BenchRequest, bench
from launcher.commands.bench.export import export
from launcher.commands.bench.llama_bench import Rates
from launcher.commands.bench.report import Report
from launcher.commands.bench.rounds import Line, Loaded, Round, as_benched
from launcher.commands.check import CheckRequest, check_command
from launcher.commands.here import Here
from launcher.commands.measurements import read_measurements
from launcher.commands.plan import plan
from launcher.commands.planned import PlanRequest
from launcher.deployment.claims import read_claims
from launcher.engine.find import Engine, EngineSource
from launcher.errors import NotFound, UsageError
from launcher.models.local import open_path
from launcher.plan.check.pace import Point
from launcher.plan.forecast.benched import Benched
from launcher.plan.modes import Dialect
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from tests.make_gguf import make_gguf
from tests.plan.planned import make_plan
from tests.plan.shapes import machine


def request(tmp_path: Path, engine: Path, *depths: int) -> BenchRequest:
    [model] = make_gguf(tmp_path / "tiny.gguf", "qwen3moe", hollow=False)
    flags = ("-t", "1", "-tb", "1")  # threads that wait for one another crawl on a busy machine
    plan = PlanRequest(ref=str(model), engine=engine, workload=Workload(ctx_size=2048), flags=flags)
    return BenchRequest(plan=plan, tests=llama_bench.Tests(depths=depths, prompt=16, reply=4, repetitions=1))


@pytest.mark.engine
def test_what_is_measured_is_kept_and_takes_the_forecast_s_place(
    here: Here, engine: Engine, tmp_path: Path
) -> None:
    asked = request(tmp_path, engine.path, 0, 64)
    with pytest.raises(NotFound, match="no measurement") as caught:
        bench(here, dataclasses.replace(asked, baseline=True))
    # one repetition can differ from nineteen at the least
    assert str(caught.value.hint).endswith("--depth 0 --depth 64 --prompt 16 --reply 4 -r 19")
    report = bench(here, dataclasses.replace(asked, against=str(engine.path)))
    found = report.benched
    assert report.other is not None
    assert [speed.depth for speed in found.speeds] == [0, 64]
    for speed in (*found.speeds, *report.other.speeds):
        for samples in (speed.prompt, speed.reply, speed.api_prompt, speed.api_reply):
            assert samples is not None
            assert len(samples.rates) == 1
            assert 0 < samples.low <= samples.median <= samples.high
        assert speed.forecast_reply is not None
        assert speed.forecast_reply.low < speed.forecast_reply.high
    assert len(report.engines) == 8
    assert set(read_measurements(here.settings)) == {found, report.other}
    assert read_claims(here.settings.claims_dir) == ()  # what it reserved is free again
    _check_plan(here, asked.plan, found)  # kept last
    _check_export(report, tmp_path / "speeds.csv")


def _check_plan(here: Here, asked: PlanRequest, last: Benched) -> None:
    measured = plan(here, asked)
    assert measured.plan is not None
    assert measured.plan.forecast is not None
    assert measured.plan.forecast.measured == last.subject.date
    assert any("in place of the prediction" in reason for reason in measured.plan.reasons)
    at = Point(depth=64, prompt=16)
    checked = check_command(here, CheckRequest(words=measured.argv, engine=asked.engine, at=at)).forecast
    assert checked is not None
    assert checked.measured == last.subject.date
    assert last.speeds[1].api_reply is not None
    assert checked.decode.mid == pytest.approx(last.speeds[1].api_reply.median)
    other = plan(here, dataclasses.replace(asked, workload=Workload(ctx_size=2048, ubatch_size=64))).plan
    assert other is not None  # another line of the same model: scaled, and says so
    assert other.forecast is not None
    assert other.forecast.measured is None
    assert any(text.startswith("scaled by") for text in other.forecast.assumptions)


def _check_export(report: Report, file: Path) -> None:
    for _ in range(2):
        export(report, file)
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    replies = [speed.reply for speed in report.benched.speeds]
    assert [row["decode_tps"] for row in rows] == [f"{reply.median:.2f}" for reply in replies if reply] * 2
    assert [row["kv_depth"] for row in rows] == ["0", "64"] * 2
    assert {(row["backend"], row["cpu_threads_used"]) for row in rows} == {("CPU", "1")}


@pytest.mark.engine
def test_a_depth_beyond_the_context_is_refused(here: Here, engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than the context"):
        bench(here, request(tmp_path, engine.path, 4096))


@pytest.mark.engine
def test_an_engine_without_llama_bench_is_named(here: Here, engine: Engine, tmp_path: Path) -> None:
    alone = tmp_path / "llama-server"
    alone.write_text(f'#!/bin/sh\nexec "{engine.path}" "$@"\n')
    alone.chmod(0o755)
    with pytest.raises(UsageError, match="no llama-bench beside it"):
        bench(here, request(tmp_path, alone, 0))


def test_what_was_measured_of_ik_llama_cpp_stands_beside_its_own_laws(here: Here, tmp_path: Path) -> None:
    file = str(make_gguf(tmp_path / "tiny.gguf", "qwen3moe", hollow=True)[0])
    model, box = open_path(Path(file)).model, machine()
    planned = make_plan(model, "Q4_0", box, Workload(ctx_size=2048))
    assert isinstance(planned, Plan)
    tests = llama_bench.Tests(depths=(0,), prompt=256, reply=4, repetitions=1)
    words = ("llama-server", "-m", file, "-c", "2048", "-mla", "3", "-amb", "512")
    rounds = [Round(api={0: Rates(prompt=100.0, reply=10.0)})]
    its = Engine(path=tmp_path / "llama-server", folder=tmp_path, source=EngineSource.OPTION)
    line = Line(commit="1", words=words, engine=its, dialect=Dialect.IK)
    loaded = Loaded(plan=planned, model=model, machine=box)
    [speed] = as_benched(here, loaded, line, tests, rounds).speeds
    plain = dataclasses.replace(line, words=words[:5], engine=None, dialect=Dialect.LLAMA_CPP)
    [mainline] = as_benched(here, loaded, plain, tests, rounds).speeds
    assert speed.forecast_prompt is not None
    assert mainline.forecast_prompt is not None
    assert speed.forecast_prompt.mid > mainline.forecast_prompt.mid
