import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.deployment.history import (
    HistoryEntry,
    Identity,
    append_entry,
    compare_rows,
    find_correction,
    plan_key,
    read_history,
)
from launcher.engine.log.load_log import usage_by_row
from launcher.plan.amounts import HOST
from launcher.system.json_lines import LIMIT_BYTES
from tests.plan.planned import ledger_row, small_plan

ONE = Identity(plan="p", engine="e", driver="570")
LOG = """\
0.1 I load_tensors:        CUDA0 model buffer size =   100.00 MiB
0.2 I llama_kv_cache:      CUDA0 KV buffer size =    20.00 MiB
0.3 I sched_reserve:       CUDA0 compute buffer size =    30.00 MiB
0.4 I sched_reserve:       CUDA0 compute buffer size =     5.00 MiB
0.5 I sched_reserve:   CUDA_Host compute buffer size =     2.00 MiB
"""
MIB = 1 << 20


def entry(**changes: Any) -> HistoryEntry:
    values: dict[str, Any] = {
        "at": "2026-11-01T00:00:00+00:00",
        "name": "m",
        "model_id": "m",
        "identity": ONE,
        "outcome": "ready",
        "load_s": 1.5,
    }
    return HistoryEntry(**(values | changes))


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.jsonl"
    rows = compare_rows((ledger_row("CUDA0", weights=7), ledger_row(HOST, kv=3)), usage_by_row(LOG))
    first, second = entry(rows=rows, cause=None), entry(name="n", saves=ONE, correction={"ubatch_size": 256})
    append_entry(path, first)
    append_entry(path, second)
    assert read_history(path) == (first, second)
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert read_history(tmp_path / "none") == ()


def test_lines_of_launchers_that_asked_no_driver_are_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_entry(path, entry(driver_bytes={"CUDA0": 7}))
    line = json.loads(path.read_text())
    assert line.pop("driver_bytes") == {"CUDA0": 7}
    path.write_text(json.dumps(line) + "\n")
    assert read_history(path) == (entry(),)


def test_planned_and_seen_stand_side_by_side() -> None:
    [(where, planned, seen), (host, _, host_seen)] = compare_rows(
        (ledger_row("CUDA0", weights=7, kv=8, compute=9), ledger_row(HOST)), usage_by_row(LOG)
    )
    assert (where, planned) == ("CUDA0", {"weights_bytes": 7, "kv_bytes": 8, "compute_bytes": 9})
    assert seen == {"weights_bytes": 100 * MIB, "kv_bytes": 20 * MIB, "compute_bytes": 5 * MIB}
    assert (host, host_seen["compute_bytes"]) == ("host", 2 * MIB)


def test_broken_lines_hide_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    append_entry(path, entry())
    with path.open("a") as file:
        file.write('{"schema": 9}\n{"half\n[]\n"x"\n{"schema": 1}\n')
    append_entry(path, entry(name="last"))
    assert [each.name for each in read_history(path)] == ["m", "last"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("at", 1),
        ("identity", {"plan": 1}),
        ("load_s", "1"),
        ("rows", [["CUDA0", {}]]),
        ("rows", [["CUDA0", {"kv_bytes": "x"}, {}]]),
        ("driver_bytes", {"CUDA0": "x"}),
        ("saves", "p"),
        ("correction", [1]),
    ],
)
def test_a_line_with_a_damaged_field_is_left_out(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "history.jsonl"
    append_entry(path, entry())
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}) + "\n")
    append_entry(path, entry(name="last"))
    assert [each.name for each in read_history(path)] == ["last"]


def test_a_correction_is_remembered_for_that_very_plan_engine_and_driver() -> None:
    saved = entry(saves=ONE, correction={"ubatch_size": 256})
    assert find_correction((entry(), saved), ONE) == {"ubatch_size": 256}
    for other in (Identity(plan="q", engine="e", driver="570"), Identity(plan="p", engine="f", driver="570")):
        assert find_correction((saved,), other) is None
    assert find_correction((saved,), Identity(plan="p", engine="e", driver="580")) is None
    assert find_correction((saved, entry(saves=ONE, outcome="failed")), ONE) is None


def test_a_plan_s_key_is_what_it_decides_not_what_was_free() -> None:
    plan = small_plan(ledger=(ledger_row(HOST, weights=1),))
    assert plan_key(plan) == plan_key(replace(plan, ledger=(ledger_row(HOST, weights=2),)))
    assert plan_key(plan) != plan_key(replace(plan, ubatch_size=256))


def test_a_plan_s_key_is_the_same_in_every_version_that_wrote_this_history() -> None:
    assert plan_key(small_plan("CUDA0")) == "8feca383fe6466c3"


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps({"x": "y" * 100}) * (LIMIT_BYTES // 100))
    append_entry(path, entry())
    assert path.stat().st_size < 1000
    assert (tmp_path / "history.jsonl.1").exists()
