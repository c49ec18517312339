"""Measured beside forecast, by the real llama-bench."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from launcher.commands.bench import BenchRequest, bench, bench_document
from launcher.commands.here import Here, here_with
from launcher.commands.planned import PlanRequest
from launcher.engine.find import Engine
from launcher.errors import UsageError
from launcher.plan.workload import Workload
from tests.make_gguf import make_gguf


@pytest.fixture
def here(tmp_path: Path) -> Here:
    here = here_with(offline=True)
    settings = dataclasses.replace(here.settings, state_dir=tmp_path / "state", isolated=True)
    return dataclasses.replace(here, settings=settings)


def request(tmp_path: Path, engine: Path, *depths: int) -> BenchRequest:
    [model] = make_gguf(tmp_path / "tiny.gguf", "qwen3moe", hollow=False)
    plan = PlanRequest(ref=str(model), engine=engine, workload=Workload(ctx_size=2048))
    return BenchRequest(plan=plan, depths=depths, prompt=16, reply=4, repetitions=2)


@pytest.mark.engine
def test_each_depth_is_measured_and_forecast(here: Here, engine: Engine, tmp_path: Path) -> None:
    found = bench(here, request(tmp_path, engine.path, 0, 64))
    assert [speed.depth for speed in found.speeds] == [0, 64]
    for speed in found.speeds:
        assert speed.prompt is not None
        assert speed.reply is not None
        assert 0 < speed.reply.low <= speed.reply.median <= speed.reply.high
        assert speed.forecast_reply is not None
        assert speed.forecast_reply.low < speed.forecast_reply.high
    [line] = (here.settings.state_dir / "bench.jsonl").read_text().splitlines()
    assert json.loads(line) == json.loads(json.dumps(bench_document(found)))


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
