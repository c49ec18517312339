"""A deployment that runs is measured as it is: nothing is loaded, and nothing ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.commands.bench import llama_bench
from launcher.commands.bench.running import bench_running
from launcher.commands.here import Here
from launcher.commands.measurements import read_measurements
from launcher.commands.plan import plan
from launcher.commands.planned import PlanRequest, compile_argv
from launcher.commands.short_server import short_server
from launcher.deployment.record import Deployment, Phase
from launcher.engine.find import Engine
from launcher.engine.flags.argv import Serving
from launcher.errors import NotFound, TryAgain, UsageError
from launcher.plan.workload import Workload
from tests.deployment.recorded import a_deployment, stored
from tests.make_gguf import make_gguf

TESTS = llama_bench.Tests(depths=(0, 32), prompt=16, reply=4, repetitions=3)


@pytest.fixture
def running(here: Here, engine: Engine, tmp_path: Path) -> Iterator[Deployment]:
    [model] = make_gguf(tmp_path / "tiny.gguf", "qwen3moe", hollow=False)
    keys = tmp_path / "keys"
    keys.write_text("secret-key\n")
    flags = ("-t", "1", "-tb", "1", "--api-key-file", str(keys))
    asked = PlanRequest(ref=str(model), engine=engine.path, workload=Workload(ctx_size=2048), flags=flags[:4])
    planned = plan(here, asked)
    assert planned.plan is not None
    serving = Serving(host="127.0.0.1", port=0, model_id="m", model_path=str(model), api_key_file=str(keys))
    argv = compile_argv(planned, planned.plan, serving)
    at = argv.index("--port") + 1

    def line(port: int) -> tuple[str, ...]:
        return (*argv[:at], str(port), *argv[at + 1 :])

    with short_server(line, here.env, 60) as url:
        yield a_deployment(
            url=url,
            argv=line(int(url.rpartition(":")[2])),
            model_path=str(model),
            engine_path=str(engine.path),
            stored_plan=stored(planned.plan),
            api_key_file=str(keys),
        )


@pytest.mark.engine
def test_it_is_measured_through_its_api_and_gated(here: Here, running: Deployment) -> None:
    with pytest.raises(NotFound, match="is kept to compare with"):
        bench_running(here, running, TESTS, baseline=True)
    found = bench_running(here, running, TESTS).benched
    assert [speed.depth for speed in found.speeds] == [0, 32]
    for speed in found.speeds:
        assert speed.prompt is None
        assert speed.api_reply is not None
        assert len(speed.api_reply.rates) == 3
        assert speed.forecast_reply is not None
    assert read_measurements(here.settings) == (found,)
    report = bench_running(here, running, TESTS, baseline=True)
    assert report.gate is not None
    assert {row.what for row in report.gate.rows} == {"prompt, HTTP API", "reply, HTTP API"}
    for change in ({"depths": (64,)}, {"repetitions": 2}):  # a gate that cannot close is no pass
        with pytest.raises(NotFound, match="one of these depths"):
            bench_running(here, running, dataclasses.replace(TESTS, **change), baseline=True)


@pytest.mark.engine
def test_what_cannot_be_timed_is_named(here: Here, running: Deployment) -> None:
    with pytest.raises(TryAgain, match="only what is ready"):
        bench_running(here, dataclasses.replace(running, phase=Phase.BACKOFF), TESTS)
    with pytest.raises(UsageError, match="more than the context"):
        bench_running(here, running, dataclasses.replace(TESTS, depths=(4096,)))
