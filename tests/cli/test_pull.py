"""pull, ls and rm as a user meets them, against a local Hub."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub import FakeHub, Fault
from tests.tiny_gguf import tiny_split

REF = "user/repo:Q4_K_M"
SHARDS = tiny_split("big-Q4_K_M", 2, n_values=300_000)
SIZE = sum(map(len, SHARDS.values()))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.publish("user/repo", SHARDS)
        yield running


class Shell:
    def __init__(self, hub: FakeHub, home: Path) -> None:
        self.env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf")}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def json(self, *words: str) -> Any:
        code, out, err = self.type(*words, "--json")
        assert code == 0, err + out
        return json.loads(out)


@pytest.fixture
def shell(hub: FakeHub, tmp_path: Path) -> Shell:
    return Shell(hub, tmp_path)


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


def test_what_is_in_folders_that_were_named_is_listed(shell: Shell, tmp_path: Path) -> None:
    """With whose it is: what was put there can be removed, what was found there cannot."""
    plain, mine = tmp_path / "plain", tmp_path / "mine"
    mine.mkdir()
    for name, content in SHARDS.items():
        (mine / name).write_bytes(content)
    shell.json("pull", REF, "--dir", str(plain), "--from", str(mine))
    (plain / "other-Q8_0.gguf").write_bytes(b"mine")
    (plain / "empty").mkdir()
    first = next(iter(SHARDS))
    listed = sorted((one["name"], one["store"], one["is_whole"]) for one in shell.json("ls"))
    assert listed == [
        (str(mine / first), "yours", True),
        (str(plain / first), "launcher", True),
        (str(plain / "other-Q8_0.gguf"), "yours", True),
    ]
    code, _, err = shell.type("rm", str(mine / first), "-y")
    files = " ".join(str(mine / name) for name in SHARDS)
    assert (code, err) == (
        2,
        f"error: {mine / first} was not put there by launcher\nhint: rm {files}\n",
    )
    assert shell.json("rm", str(plain / first), "-y")["freed_bytes"] == 0
    assert sorted(path.name for path in plain.iterdir() if path.name != ".locks") == [
        "empty",
        "other-Q8_0.gguf",
    ]
    assert sorted(path.name for path in mine.iterdir()) == sorted(SHARDS)
    shutil.rmtree(mine)
    assert [one["name"] for one in shell.json("ls")] == [str(plain / "other-Q8_0.gguf")]


def test_a_file_is_removed_by_whatever_path_names_it(shell: Shell, tmp_path: Path) -> None:
    plain, link = tmp_path / "plain", tmp_path / "link"
    shell.json("pull", REF, "--dir", str(plain))
    link.symlink_to(plain)
    first = next(iter(SHARDS))
    assert shell.json("rm", str(link / first), "-y")["removed"] == [str(plain / first)]
    shell.json("pull", REF, "--dir", str(link))
    relative = os.path.relpath(plain / first)
    assert shell.json("rm", relative, "-y")["removed"] == [str(plain / first)]
    assert not list(plain.glob("*.gguf"))


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
