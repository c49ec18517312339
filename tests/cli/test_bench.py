"""A word of `bench` is a deployment, if one is called so and nothing of a plan is typed; else a REF."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.cli.main import execute
from launcher.deployment.records import make_private, save_record
from launcher.system.settings import read_settings
from tests.deployment.recorded import a_deployment

MEASURED: list[str] = []


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was measured, in words; the measurement itself says that it is slower."""
    MEASURED.clear()

    def report(what: str) -> Any:
        MEASURED.append(what)
        return SimpleNamespace(gate=SimpleNamespace(is_slower=True))

    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    folder = read_settings().deployments_dir
    make_private(folder)
    save_record(folder, a_deployment("m"))
    running = "launcher.commands.bench.running.bench_running"
    monkeypatch.setattr(running, lambda _here, deployment, _tests, **_: report(f"runs: {deployment.name}"))
    model = "launcher.commands.bench.bench.bench"
    monkeypatch.setattr(model, lambda _here, request: report(f"loads: {request.plan.ref}"))
    monkeypatch.setattr("launcher.commands.bench.report.report_document", lambda _report: {})
    monkeypatch.setattr("launcher.cli.show.measured.render_report", lambda _report: ())
    return MEASURED


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["m"], "runs: m"),
        (["m", "--baseline", "--depth", "64"], "runs: m"),
        (["m", "-c", "2048"], "loads: m"),
        (["m", "--against", "b1"], "loads: m"),
        (["m", "--", "-t", "1"], "loads: m"),
        (["n"], "loads: n"),
        (["user/repo:Q4_0"], "loads: user/repo:Q4_0"),
    ],
)
def test_the_word_and_the_exit_code_of_the_gate(measured: list[str], words: list[str], found: str) -> None:
    assert execute(["bench", *words, "--json"]) == 1
    assert measured == [found]
