"""A few start, kill -9 and stop cycles at random moments; `scripts/bench supervise` does two hundred."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests.serving import fake_command, stub_model

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_supervise.py"


def test_nothing_is_left_whoever_is_killed_whenever(deployments: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("bench_supervise", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    command = fake_command("--load-seconds", "0.2")
    assert bench.cycles(deployments, command, stub_model(tmp_path), 15, seed=7) == []
