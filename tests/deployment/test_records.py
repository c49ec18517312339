import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.deployment.identity import ProcessId, identify
from launcher.deployment.record import (
    Deployment,
    Phase,
    Unreadable,
    check_name,
    deployment_name,
    document,
    parse_deployment,
    plan_hash,
)
from launcher.deployment.records import (
    State,
    Status,
    find,
    log_path,
    look,
    make_private,
    read_all,
    remove,
    require,
    save,
)
from launcher.errors import NotFound, UsageError

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
        plan={"quant": "Q4_1", "ledger": [{"weights": {"n_bytes": 5}}]},
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
    save(folder, a_deployment("first"))
    save(folder, a_deployment("first", port=99))
    save(folder, a_deployment("second", process=None))
    assert read_all(folder) == (a_deployment("first", port=99), a_deployment("second", process=None))
    assert sorted(file.name for file in folder.iterdir()) == ["first.json", "second.json"]
    assert oct((folder / "first.json").stat().st_mode & 0o777) == "0o600"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    remove(folder, "first")
    assert find(folder, "first") is None
    assert read_all(tmp_path / "none") == ()


def test_the_document_is_what_scripts_read() -> None:
    given = document(a_deployment())
    assert given["pid"] == os.getpid()
    assert (given["name"], given["url"], given["plan"]) == ("m", "http://127.0.0.1:1234", a_deployment().plan)
    assert parse_deployment(json.dumps(given)) == a_deployment()


GOOD = document(a_deployment())


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
    save(tmp_path, a_deployment("good"))
    (tmp_path / "bad.json").write_text(text)
    broken, good = read_all(tmp_path)
    assert isinstance(broken, Unreadable)
    assert (broken.name, good) == ("bad", a_deployment("good"))
    assert broken.problem.startswith(problem)
    with pytest.raises(UsageError, match=r"bad\.json"):
        require(tmp_path, "bad")


def test_bytes_that_are_no_text_are_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    assert isinstance(find(tmp_path, "bad"), Unreadable)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Status(state=State.RUNNING)),
        ({"phase": Phase.STOPPING}, Status(state=State.RUNNING, detail="it is being stopped")),
        ({"phase": Phase.STARTING, "starter": ME}, Status(state=State.STARTING)),
        (
            {"phase": Phase.STARTING},
            Status(
                state=State.STARTING,
                detail="its launcher ended before it was ready; take it over with up, end it with stop m",
            ),
        ),
        ({"phase": Phase.STARTING, "process": None, "starter": ME}, Status(state=State.STARTING)),
        (
            {"phase": Phase.STARTING, "process": None},
            Status(state=State.GONE, detail="its launcher ended before llama-server was started"),
        ),
        (
            {"process": NOBODY},
            Status(state=State.GONE, detail=f"llama-server (pid {os.getpid()}) ended"),
        ),
        (
            {"process": NOBODY, "phase": Phase.STARTING},
            Status(state=State.GONE, detail=f"llama-server (pid {os.getpid()}) ended before it was ready"),
        ),
        ({"process": ELSEWHERE}, Status(state=State.OTHER_HOST, detail="pid 77 on bigbox")),
    ],
)
def test_a_look_believes_the_process_only(changes: dict[str, object], expected: Status) -> None:
    assert look(a_deployment(**changes)) == expected


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
    for use in (check_name, lambda it: log_path(tmp_path, it), lambda it: find(tmp_path, it)):
        with pytest.raises(UsageError, match="is not made of"):
            use(name)


def test_an_unknown_name_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no deployment is called x; there is none"):
        require(tmp_path, "x")
    save(tmp_path, a_deployment("one"))
    save(tmp_path, a_deployment("two"))
    with pytest.raises(NotFound, match="no deployment is called x; there is one, two"):
        require(tmp_path, "x")


def test_equal_plans_have_equal_hashes() -> None:
    assert plan_hash({"a": 1, "b": [2]}) == plan_hash({"b": [2], "a": 1})
    assert plan_hash({"a": 1}) != plan_hash({"a": 2})
