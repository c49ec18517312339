"""The real thing, short: a bad start is left, the next plan knows it, and what is killed leaves nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from launcher.commands.here import Here
from launcher.commands.plan import plan
from launcher.commands.planned import PlanRequest
from launcher.commands.tune import trial as trials
from launcher.commands.tune.tune import TuneRequest, tune
from launcher.commands.tuned import keep_tuned
from launcher.deployment.claims import read_claims
from launcher.engine.find import Engine
from launcher.plan.tuning.settings import Setting
from launcher.plan.tuning.tuner import PLAN, Measured
from launcher.plan.workload import Workload
from tests.make_gguf import make_gguf


def asked(tmp_path: Path, engine: Engine) -> PlanRequest:
    [model] = make_gguf(tmp_path / "tiny.gguf", "qwen3moe", hollow=False)
    flags = ("-t", "1", "-tb", "1")
    return PlanRequest(ref=str(model), engine=engine.path, workload=Workload(ctx_size=2048), flags=flags)


@pytest.mark.engine
def test_a_trial_is_planned_reserved_served_and_over(
    here: Here, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during: list[int] = []
    time_completion = trials.time_completion

    def watched(*given: object, **options: object) -> object:
        during.append(len(read_claims(here.settings.claims_dir)))
        return time_completion(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trials, "time_completion", watched)
    request = TuneRequest(plan=asked(tmp_path, engine), budget_s=0.1, prompt=8, reply=2)
    report = tune(here, request)  # no time for more than the plan itself
    assert len(report.state.seen[PLAN]) == 2
    assert report.tuned.words == ()
    assert during == [1, 1, 1]
    assert read_claims(here.settings.claims_dir) == ()


@pytest.mark.engine
def test_what_was_tuned_is_planned_with_until_it_is_asked_not_to(
    here: Here, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(tmp_path, engine)
    best = Setting(knob="ubatch", words=("-ub", "256"))

    def measured(bench: trials.Bench, wanted: object) -> Measured:
        trial = wanted.trial  # type: ignore[attr-defined]
        rate = 2.0 if best in trial else 1.0
        return Measured(trial=trial, rates=(rate,) * wanted.times, took_s=0.1)  # type: ignore[attr-defined]

    monkeypatch.setattr("launcher.commands.tune.tune.carry_out", measured)
    report = tune(here, TuneRequest(plan=request, budget_s=60.0))
    assert report.tuned.words == best.words
    planned = plan(here, request)
    assert planned.tuned.startswith("-ub 256, 2.00 times as fast")
    tuned, plain = planned.plan, plan(here, dataclasses.replace(request, untuned=True)).plan
    assert tuned is not None
    assert plain is not None
    assert (tuned.ubatch_size, plain.ubatch_size) == (256, 512)
    assert any("--untuned leaves it out" in reason for reason in tuned.reasons)
    typed = dataclasses.replace(request, workload=Workload(ctx_size=2048, ubatch_size=128))
    by_hand = plan(here, typed).plan
    assert by_hand is not None
    assert by_hand.ubatch_size == 128  # what is typed comes first
    keep_tuned(here, dataclasses.replace(report.tuned, words=("-ub", "0")))
    absurd = plan(here, request).plan
    assert absurd is not None
    assert absurd.ubatch_size == 512
    assert any("left out" in reason for reason in absurd.reasons)
