"""pull as a user meets it, against a local Hub, and what ls and rm make of it."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

from tests.cli.shell import REF, SHARDS, SIZE, Shell
from tests.fakes.hub import FakeHub, Fault


def test_pull_ls_rm(hub: FakeHub, shell: Shell) -> None:
    code, out, err = shell.type("pull", REF)
    paths = [Path(line) for line in out.splitlines()]
    assert (code, list(SHARDS.values())) == (0, [path.read_bytes() for path in paths])
    assert err.splitlines()[-1] == "pull: 100 %"
    (kept,) = shell.json("ls")
    assert (kept["name"], kept["is_whole"], kept["here_bytes"]) == (REF, True, SIZE)
    seen = len(hub.seen)
    assert shell.json("pull", REF, "--offline")["paths"] == [str(path) for path in paths]
    assert len(hub.seen) == seen
    assert "verify: 100 %" in shell.type("pull", REF, "--verify")[2]
    code, _, err = shell.type("rm", "user/repo")
    assert (code, err.splitlines()[-1]) == (2, "hint: launcher rm user/repo -y")
    assert shell.json("rm", "user/repo", "-y") == {"removed": [REF], "freed_bytes": SIZE}
    assert shell.type("ls")[1] == "no model is here: launcher pull MODEL\n"
    code, _, err = shell.type("rm", "user/repo")
    assert (code, err) == (4, "error: there is no user/repo in the stores here\nhint: launcher ls\n")
    code, _, err = shell.type("pull", REF, "--offline")
    assert (code, "may not be asked" in err) == (4, True)


def test_into_a_folder_and_from_one(shell: Shell, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    assert [str(plain / name) for name in SHARDS] == shell.json("pull", REF, "--dir", str(plain))["paths"]
    first = Path(shell.json("pull", REF, "--from", str(plain))["paths"][0])
    assert first.samefile(plain / next(iter(SHARDS)))
    assert shell.type("pull", REF, "--from", str(tmp_path / "none"))[0] == 2


def test_progress_as_json_lines_names_every_shard_while_it_is_under_way(hub: FakeHub, shell: Shell) -> None:
    hub.faults.append(Fault(bytes_per_s=600_000))
    code, _, err = shell.type("pull", REF, "--progress", "jsonl")
    steps = [json.loads(line) for line in err.splitlines()]
    assert (code, {step["phase"] for step in steps}) == (0, {"pull"})
    assert {step["part"] for step in steps if 0 < step["done"] < step["total"]} == {"", *SHARDS}
    assert [steps[-1][key] for key in ("done", "total", "unit", "part")] == [SIZE, SIZE, "bytes", ""]


def test_ctrl_c_leaves_what_arrived_and_says_how_to_go_on(hub: FakeHub, shell: Shell, tmp_path: Path) -> None:
    hub.faults.append(Fault(stall_after=400_000))
    options = ("--dir", str(tmp_path / "a b"), "--from", str(tmp_path), "--connections", "2", "-y")
    with shell.start("pull", *options, REF, "--progress", "jsonl") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["done"] > 0:
                break
        process.send_signal(signal.SIGINT)
        err = process.stderr.read().splitlines()
        assert process.wait(20) == 130
    assert err[-2:] == [
        "error: the download was stopped; what has arrived is kept",
        f"hint: launcher pull {shlex.join((REF, *options))}",
    ]
    hub.faults.clear()
    assert shell.type(*shlex.split(err[-1])[2:])[0] == 0
