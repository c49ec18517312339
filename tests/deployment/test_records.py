import json
from pathlib import Path

import pytest

from launcher.deployment.record import (
    Deployment,
    UnreadableRecord,
    check_name,
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
from launcher.deployment.status import DeploymentState, read_status
from launcher.errors import NotFound, UsageError
from tests.deployment.recorded import a_deployment


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    make_private(folder)
    save_record(folder, a_deployment("first"))
    save_record(folder, a_deployment("first", port=99))
    save_record(folder, a_deployment("second", process=None))
    first = a_deployment("first", port=99, log_path=str(folder / "first.log"))
    second = a_deployment("second", process=None, log_path=str(folder / "second.log"))
    assert read_all(folder) == (first, second)
    assert sorted(file.name for file in folder.iterdir()) == ["first.json", "second.json"]
    assert oct((folder / "first.json").stat().st_mode & 0o777) == "0o600"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    remove_record(folder, "first")
    assert find_record(folder, "first") is None
    assert read_all(tmp_path / "none") == ()


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
    assert (broken.name, good) == ("bad", a_deployment("good", log_path=str(tmp_path / "good.log")))
    assert broken.problem.startswith(problem)
    with pytest.raises(UsageError, match=r"bad\.json"):
        require_record(tmp_path, "bad")


def test_bytes_that_are_no_text_are_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    assert isinstance(find_record(tmp_path, "bad"), UnreadableRecord)


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
