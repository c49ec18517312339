"""What runs here, as a table."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from launcher.cli.show.deployments import render_statuses
from launcher.deployment.status import DeploymentState, Status, StatusReport, Vitals
from launcher.plan.amounts import HOST, LedgerRow
from launcher.units import GIB
from tests.cli.show.test_ledger import row


def shown(
    ledger: tuple[LedgerRow, ...],
    tokens_per_s: float | None,
    idle_s: float | None = None,
    *,
    name: str = "m",
    width: int = 100,
) -> list[str]:
    deployment: Any = SimpleNamespace(
        name=name,
        url="http://127.0.0.1:8080",
        ledger=ledger,
        restarts=0,
        failure=None,
        options=SimpleNamespace(engine_pin=None),
    )
    vitals = Vitals(uptime_s=90, resident_bytes=2 * GIB, tokens_per_s=tokens_per_s, idle_s=idle_s)
    report = StatusReport(deployment=deployment, status=Status(state=DeploymentState.RUNNING), vitals=vitals)
    console = Console(file=io.StringIO(), width=width)
    console.print(render_statuses([report]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line for line in text.splitlines() if line.strip()]


def test_gpu_memory_is_a_column_where_a_deployment_has_some() -> None:
    head, _, line = shown((row("CUDA0", 20, 23), row(HOST, 9, 100)), 12.34)
    assert head.split() == ["name", "state", "url", "up", "idle", "RAM", "GPU", "tok/s"]
    assert line.split()[-5:] == ["2.0", "GiB", "20.0", "GiB", "12.3"]
    head, _, _ = shown((row(HOST, 9, 100),), 12.34)
    assert "GPU" not in head


@pytest.mark.parametrize("speed", [None, 0.0])
def test_a_speed_that_nothing_was_asked_for_is_a_dash(speed: float | None) -> None:
    assert shown((), speed)[-1].split()[-1] == "-"


@pytest.mark.parametrize(("idle_s", "words"), [(0.0, "busy"), (125.0, "2m"), (None, "2.0")])
def test_how_long_nothing_was_asked_stands_beside_how_long_it_is_up(idle_s: float | None, words: str) -> None:
    assert shown((), None, idle_s)[-1].split()[4] == words  # after name, state, url and up


def test_at_80_columns_the_url_is_below_the_name_and_nothing_is_cut() -> None:
    lines = shown(
        (row("CUDA0", 120, 140), row(HOST, 9, 100)), 1234.5, 900.0, name="qwen3.6-35b-a3b", width=80
    )
    assert max(map(len, lines)) <= 80
    assert "url" not in lines[0].split()
    assert lines[2].split() == [
        "qwen3.6-35b-a3b",
        "running",
        "2m",
        "15m",
        "2.0",
        "GiB",
        "120.0",
        "GiB",
        "1234.5",
    ]
    assert lines[3].split() == ["http://127.0.0.1:8080/v1"]
