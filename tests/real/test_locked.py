"""`plan --lock` and `up --locked` with real engines: the same command line, and never another plan."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launcher.engine.capabilities import engine_digest
from launcher.engine.find import Engine
from tests.real.test_failures import LIMIT_MIB, Box
from tests.real.test_story import Shell
from tests.serving import until


@pytest.fixture
def shell(engine: Engine, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(engine, tmp_path / "launcher")
    yield shell
    shell.type("stop", "--all")


@pytest.mark.engine
def test_a_locked_plan_is_started_word_for_word_and_kept_up(
    shell: Shell, engine: Engine, default_model: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.json"
    planned = shell.json("plan", str(default_model), "-c", "1024", "--lock", str(lock))
    refused = shell.type("up", "--locked", str(lock), "-c", "2048")
    assert refused.returncode == 2
    assert "no wishes for the plan" in refused.stderr

    started = shell.json("up", "--locked", str(lock))
    at = planned["argv"].index("--port") + 1
    assert (
        started["argv"][:at] + started["argv"][at + 1 :] == planned["argv"][:at] + planned["argv"][at + 1 :]
    )
    assert started["plan"] == json.loads(lock.read_text())["plan"]
    assert started["engine_sha256"] == engine_digest(engine, tmp_path / "digests")

    def again() -> bool:
        [entry] = shell.json("ps")
        return bool(
            entry["state"] == "running" and entry["pid"] != started["pid"] and entry["phase"] == "ready"
        )

    os.kill(started["pid"], signal.SIGKILL)
    until(again)
    [entry] = shell.json("ps")
    assert psutil.Process(entry["pid"]).cmdline() == started["argv"]


@pytest.mark.engine
def test_another_build_of_the_same_commit_is_taken_and_said(
    shell: Shell, engine: Engine, default_model: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.json"
    shell.json("plan", str(default_model), "-c", "512", "--lock", str(lock))
    other = tmp_path / "other"
    shutil.copytree(engine.folder, other, symlinks=True)
    library = next(path for path in other.glob("libllama.*") if not path.is_symlink())
    with library.open("ab") as file:
        file.write(bytes(8))
    taken = shell.type("up", "--locked", str(lock), "--engine", str(other / engine.path.name))
    assert taken.returncode == 0, taken.stderr
    assert "was made for another build of the same llama.cpp" in taken.stderr


@pytest.mark.engine
def test_a_lock_for_another_llama_cpp_is_refused_unless_the_engine_is_named(
    shell: Shell, engine: Engine, default_model: Path, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.json"
    shell.json("plan", str(default_model), "-c", "512", "--lock", str(lock))
    document = json.loads(lock.read_text())
    document["engine"] = {"sha256": "0" * 64, "commit": "fffffff"}
    lock.write_text(json.dumps(document))
    refused = shell.type("up", "--locked", str(lock))
    assert refused.returncode == 2
    assert "was made for the engine of commit fffffff" in refused.stderr
    named = shell.type("up", "--locked", str(lock), "--engine", str(engine.path))
    assert named.returncode == 0, named.stderr
    assert "--engine decides" in named.stderr


@pytest.mark.vulkan
def test_without_memory_a_locked_plan_fails_and_names_what_would_do(
    vulkan_engine: Engine, default_model: Path, tmp_path: Path
) -> None:
    box = Box(vulkan_engine.path, tmp_path / "launcher", LIMIT_MIB)
    lock = tmp_path / "lock.json"
    engine = ("--engine", str(box.wrapper))
    box.json(
        "plan", str(default_model), "-c", "32768", "-np", "4", "--kv", "f16", "--lock", str(lock), *engine
    )
    failed = box.type("up", "--locked", str(lock), *engine)
    box.type("stop", "--all")
    assert failed.returncode == 5, failed.stderr
    *_, error, hint = failed.stderr.splitlines()
    assert "ran out of memory: it could not allocate 720.0 MiB on Vulkan0" in error
    assert hint.startswith(f"hint: launcher up {default_model} -c 32768: plans it anew")
    assert "trying again" not in failed.stderr
    assert box.json("ps") == []
