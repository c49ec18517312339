import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.identity import ProcessId, identify
from launcher.deployment.record import (
    Deployment,
    Phase,
    UnreadableRecord,
    check_name,
    deployment_name,
    parse_deployment,
    plan_hash,
    record_json,
)
from launcher.deployment.records import (
    find_record,
    log_path,
    make_private,
    read_all,
    remove_record,
    require_record,
    save_record,
)
from launcher.deployment.status import DeploymentState, Status, read_status
from launcher.errors import NotFound, UsageError
from launcher.plan.amounts import HOST
from launcher.plan.from_json import stored
from launcher.plan.plan import Plan
from tests.plan.planned import ledger_row, small_plan

ME = identify(os.getpid())
NOBODY = ProcessId(
    pid=os.getpid(), start_time=1.0, boot_id=ME.boot_id if ME else None, hostname=os.uname().nodename
)
ELSEWHERE = ProcessId(pid=77, start_time=1.0, boot_id="b", hostname="bigbox")


def a_deployment(name: str = "m", **changes: object) -> Deployment:
    values = Deployment(
        name=name,
        model_id="user/m:Q4_1",
        url="http://127.0.0.1:1234",
        host="127.0.0.1",
        port=1234,
        process=ME,
        starter=NOBODY,
        phase=Phase.READY,
        model_path="/models/m.gguf",
        model_bytes=10,
        argv=("llama-server", "-m", "/models/m.gguf"),
        env_dropped=("LLAMA_ARG_X",),
        stored_plan=stored(small_plan("CUDA0")),
        plan_hash="abc",
        log_path="/state/m.log",
        engine_path="/bin/llama-server",
        engine_sha256=None,
        engine_commit="0c1e570",
        api_key_file=None,
        started_at="2026-11-01T00:00:00+00:00",
    )
    return replace(values, **changes)  # type: ignore[arg-type]


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    make_private(folder)
    save_record(folder, a_deployment("first"))
    save_record(folder, a_deployment("first", port=99))
    save_record(folder, a_deployment("second", process=None))
    assert read_all(folder) == (a_deployment("first", port=99), a_deployment("second", process=None))
    assert sorted(file.name for file in folder.iterdir()) == ["first.json", "second.json"]
    assert oct((folder / "first.json").stat().st_mode & 0o777) == "0o600"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    remove_record(folder, "first")
    assert find_record(folder, "first") is None
    assert read_all(tmp_path / "none") == ()


def test_the_document_is_what_scripts_read() -> None:
    given = record_json(a_deployment())
    assert given["pid"] == os.getpid()
    plan = a_deployment().stored_plan.document
    assert (given["name"], given["url"], given["plan"]) == ("m", "http://127.0.0.1:1234", plan)
    assert parse_deployment(json.dumps(given)) == a_deployment()


def test_a_record_says_what_its_plan_takes() -> None:
    rows = (ledger_row("CUDA0", weights=5, kv=2), ledger_row("CUDA1", weights=6), ledger_row(HOST, compute=1))
    entry = a_deployment(stored_plan=stored(small_plan("CUDA0", "CUDA1", ledger=rows)))
    again = parse_deployment(json.dumps(record_json(entry)))
    assert isinstance(again.plan, Plan)
    assert again.planned_bytes == {"CUDA0": 7, "CUDA1": 6, HOST: 1}


GOOD = record_json(a_deployment())


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ({**GOOD["plan"], "schema": 7}, "the plan cannot be read: schema is 7; this launcher reads 1"),
        ({**GOOD["plan"], "devices": "CUDA0"}, "the plan cannot be read: devices is not a list of objects"),
        ({"quant": "Q4_1"}, "the plan cannot be read: schema is not a whole number"),
    ],
)
def test_a_record_with_a_plan_that_cannot_be_read_is_listed_and_keeps_it(
    tmp_path: Path, plan: dict[str, object], problem: str
) -> None:
    (tmp_path / "m.json").write_text(json.dumps({**GOOD, "plan": plan}))
    [entry] = read_all(tmp_path)
    assert isinstance(entry, Deployment)
    assert (entry.plan, entry.planned_bytes, entry.stored_plan.problem) == (None, {}, problem)
    assert read_status(entry).state is DeploymentState.RUNNING
    assert record_json(entry)["plan_problem"] == problem
    save_record(tmp_path, entry)
    assert json.loads((tmp_path / "m.json").read_text())["plan"] == plan
    assert find_record(tmp_path, "m") == entry


def test_a_record_that_was_cut_is_unreadable(tmp_path: Path) -> None:
    text = json.dumps(GOOD)
    for end in range(0, len(text), 53):
        (tmp_path / "m.json").write_text(text[:end])
        assert isinstance(find_record(tmp_path, "m"), UnreadableRecord)


@pytest.mark.parametrize("key", GOOD)
@pytest.mark.parametrize(
    "value", [None, True, -1, 1 << 70, 0.5, "", "\ud800", "x", [], [None], {}, {"pid": -1}]
)
def test_a_record_with_another_kind_of_field_is_read_or_unreadable(
    tmp_path: Path, key: str, value: object
) -> None:
    (tmp_path / "m.json").write_text(json.dumps({**GOOD, key: value}))
    entry = find_record(tmp_path, "m")
    if isinstance(entry, Deployment):
        assert read_status(entry).state in set(DeploymentState)
        save_record(tmp_path, entry)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not JSON"),
        ("{" * 10, "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[1]", "it is not a deployment's state"),
        ('{"name": "m"}', "it is not a deployment's state"),
        (json.dumps({**GOOD, "schema": 2}), "it has schema 2; this launcher reads 1"),
        (json.dumps({**GOOD, "port": "80"}), "port is not a whole number"),
        (json.dumps({**GOOD, "port": True}), "port is not a whole number"),
        (json.dumps({**GOOD, "argv": [1]}), "argv is not a list of texts"),
        (json.dumps({**GOOD, "plan": None}), "plan is not an object"),
        (json.dumps({**GOOD, "phase": "asleep"}), "phase 'asleep' is not one this launcher knows"),
        (json.dumps({**GOOD, "process": {"pid": 0, "start_time": 1}}), "process has no pid"),
        (json.dumps({**GOOD, "process": 4}), "process is not a process"),
        (json.dumps({**GOOD, "name": "../m"}), "it describes a deployment called '../m'"),
    ],
)
def test_a_broken_file_is_reported_beside_the_others(tmp_path: Path, text: str, problem: str) -> None:
    save_record(tmp_path, a_deployment("good"))
    (tmp_path / "bad.json").write_text(text)
    broken, good = read_all(tmp_path)
    assert isinstance(broken, UnreadableRecord)
    assert (broken.name, good) == ("bad", a_deployment("good"))
    assert broken.problem.startswith(problem)
    with pytest.raises(UsageError, match=r"bad\.json"):
        require_record(tmp_path, "bad")


def test_bytes_that_are_no_text_are_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    assert isinstance(find_record(tmp_path, "bad"), UnreadableRecord)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Status(state=DeploymentState.RUNNING)),
        ({"phase": Phase.STOPPING}, Status(state=DeploymentState.RUNNING, detail="it is being stopped")),
        ({"phase": Phase.STARTING, "starter": ME}, Status(state=DeploymentState.STARTING)),
        (
            {"phase": Phase.STARTING},
            Status(
                state=DeploymentState.STARTING,
                detail="its launcher ended before it was ready; take it over with up, end it with stop m",
            ),
        ),
        ({"phase": Phase.STARTING, "process": None, "starter": ME}, Status(state=DeploymentState.STARTING)),
        (
            {"phase": Phase.STARTING, "process": None},
            Status(state=DeploymentState.GONE, detail="its launcher ended before llama-server was started"),
        ),
        (
            {"process": NOBODY},
            Status(state=DeploymentState.GONE, detail=f"llama-server (pid {os.getpid()}) ended"),
        ),
        (
            {"process": NOBODY, "phase": Phase.STARTING},
            Status(
                state=DeploymentState.GONE,
                detail=f"llama-server (pid {os.getpid()}) ended before it was ready",
            ),
        ),
        ({"process": ELSEWHERE}, Status(state=DeploymentState.OTHER_HOST, detail="pid 77 on bigbox")),
    ],
)
def test_a_look_believes_the_process_only(changes: dict[str, object], expected: Status) -> None:
    assert read_status(a_deployment(**changes)) == expected


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("smollm2-135m", "smollm2-135m"),
        ("unsloth/Kimi-K2.5-GGUF:TQ1_0", "kimi-k2.5-gguf-tq1_0"),
        ("/models/My Model.gguf", "my-model"),
        ("https://x/../..", "model"),
        ("モデル", "model"),
        ("a" * 200, "a" * 64),
    ],
)
def test_a_name_is_derived_from_the_model(model_id: str, name: str) -> None:
    assert deployment_name(model_id) == name
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-rf", "UPPER", "a" * 65, "a\n", "ü"])
def test_a_name_never_becomes_a_path_unchecked(tmp_path: Path, name: str) -> None:
    for use in (check_name, lambda it: log_path(tmp_path, it), lambda it: find_record(tmp_path, it)):
        with pytest.raises(UsageError, match="is not made of"):
            use(name)


def test_an_unknown_name_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no deployment is called x; there is none"):
        require_record(tmp_path, "x")
    save_record(tmp_path, a_deployment("one"))
    save_record(tmp_path, a_deployment("two"))
    with pytest.raises(NotFound, match="no deployment is called x; there is one, two"):
        require_record(tmp_path, "x")


def test_equal_plans_have_equal_hashes() -> None:
    assert plan_hash({"a": 1, "b": [2]}) == plan_hash({"b": [2], "a": 1})
    assert plan_hash({"a": 1}) != plan_hash({"a": 2})
