"""Progress as people and programs see it."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from launcher.cli.show.output import Output
from launcher.cli.show.progress import ProgressBars, ProgressStyle, _amount
from launcher.progress import Step

MIB = 1 << 20


def step(done: int, part: str = "", text: str = "", phase: str = "pull") -> Step:
    return Step(phase=phase, done=done * MIB, total=100 * MIB, unit="bytes", file=part, text=text)


def test_bars_for_the_sum_and_every_part() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with ProgressBars(console) as bars:
        bars(step(30))
        bars(step(10, part="Q4/model-00001-of-00002.gguf"))
        bars(step(20, part="Q4/model-00002-of-00002.gguf", text="checking, 40 %"))
        bars._progress.refresh()
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        bars(step(100))
    for words in ("30.0 MiB of 100.0 MiB", "model-00001-of-00002.gguf", "checking, 40 %"):
        assert words in shown
    last = console.file.getvalue().rpartition("pull")[2]  # type: ignore[attr-defined]
    assert "model-" not in last  # what stays is the sum


def test_two_phases_at_once() -> None:
    # the engine is built while the model is pulled
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with ProgressBars(console) as bars:
        threads = [
            threading.Thread(target=lambda phase=phase: [bars(step(n, phase=phase)) for n in range(50)])
            for phase in ("build", "pull")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(bars._tasks) == 2


def test_two_jobs_of_one_phase_have_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    steps = [
        replace(step(done, phase="download"), job=job) for done in (10, 90) for job in ("a.whl", "b.whl")
    ]
    with ProgressBars(console) as bars:
        for each in steps:
            bars(each)
        bars._progress.refresh()
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert len(bars._tasks) == 2
    assert "download a.whl" in shown
    with Output(as_json=False, progress=ProgressStyle.AUTO).progress() as progress:
        for each in steps:
            progress(each)
    lines = [f"download: {tenth} % {job}" for tenth in (10, 90) for job in ("a.whl", "b.whl")]
    assert capsys.readouterr().err.splitlines() == lines


def test_in_a_pipe_a_line_per_tenth_and_none_per_part(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=False, progress=ProgressStyle.AUTO).progress() as progress:
        for done in range(0, 101, 5):
            progress(step(done))
            progress(step(done, part="model.gguf"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"pull: {tenth} %" for tenth in range(0, 101, 10)]


def pull(done: int, total: int | None = 1000) -> Step:
    return Step(phase="pull", done=done, total=total, unit="bytes", text="x.gguf")


def test_in_a_pipe_progress_is_a_line_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=False).progress() as report:
        for done in range(0, 1001, 7):
            report(pull(done))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pull: 0 % x.gguf"
    assert len(lines) == 10


def test_a_size_that_is_not_known_yet_is_left_out() -> None:
    task = SimpleNamespace(completed=0, total=0, speed=None, finished=False, time_remaining=None)
    task.fields = {"text": "", "unit": "bytes"}
    assert _amount(task) == ""  # type: ignore[arg-type]
    task.total = 1 << 20
    assert _amount(task) == "0 B of 1.0 MiB"  # type: ignore[arg-type]


def test_jsonl_progress_ends_with_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(as_json=True, progress=ProgressStyle.JSONL).progress() as report:
        for done in range(0, 1001, 10):
            report(pull(done))
    out, err = capsys.readouterr()
    steps = [json.loads(line) for line in err.splitlines()]
    assert out == ""
    assert steps[0]["done"] == 0
    assert steps[-1] == {
        "phase": "pull",
        "done": 1000,
        "total": 1000,
        "unit": "bytes",
        "text": "x.gguf",
        "part": "",
        "said": False,
    }
    assert len(steps) < 100
