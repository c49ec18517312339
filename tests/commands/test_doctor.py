"""Each check on a machine, or a tree, made for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.commands.doctor import (
    check_engine,
    check_kernel,
    check_limits,
    check_state,
    check_token,
    disk_speed,
    examine,
)
from launcher.deployment.record import Phase
from launcher.deployment.records import save_record
from launcher.engine.find import Engine, EngineSource
from launcher.machine.machine import MemoryPool
from launcher.system.settings import read_settings
from launcher.units import GIB
from tests.deployment.recorded import a_deployment
from tests.plan.shapes import cards, machine

NODES = tuple(MemoryPool(node=n, total_bytes=GIB, free_bytes=GIB, cpus=(n,)) for n in range(2))


def an_engine(folder: Path, listing: str = "Available devices:\n", *libraries: str) -> Engine:
    program = folder / "llama-server"
    program.write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    program.chmod(0o755)
    for library in libraries:
        (folder / library).touch()
    return Engine(path=program, folder=program.parent, source=EngineSource.OPTION, build=None)


def test_a_gpu_that_is_not_used_is_said_loudly(tmp_path: Path) -> None:
    box = machine(*cards(24000), ram_bytes=64 * GIB)
    [finding] = check_engine(an_engine(tmp_path, "Available devices:\\n", "libggml-cpu.so"), box)
    assert finding.wrong
    assert finding.text.startswith("THE GPU IS NOT USED")
    assert finding.text.endswith("it is built for the CPU alone")
    assert finding.fix == "launcher engine install"


def test_a_missing_engine_and_one_that_does_not_run_are_wrong(tmp_path: Path) -> None:
    box = machine(ram_bytes=64 * GIB)
    assert [finding.fix for finding in check_engine(None, box)] == ["launcher engine install"]
    broken = tmp_path / "llama-server"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    [finding] = check_engine(
        Engine(path=broken, folder=tmp_path, source=EngineSource.OPTION, build=None), box
    )
    assert finding.wrong


@pytest.mark.parametrize(("overcommit", "wrong"), [("0", []), ("1", []), ("2", ["overcommit"])])
def test_overcommit(tmp_path: Path, overcommit: str, wrong: list[str]) -> None:
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm/overcommit_memory").write_text(f"{overcommit}\n")
    assert [finding.check for finding in check_kernel(tmp_path, machine(ram_bytes=GIB))] == wrong


@pytest.mark.parametrize(("nodes", "wrong"), [((), []), (NODES, ["numa"])])
def test_numa_balancing_matters_with_several_nodes(
    tmp_path: Path, nodes: tuple[MemoryPool, ...], wrong: list[str]
) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/numa_balancing").write_text("1\n")
    box = replace(machine(ram_bytes=GIB), nodes=nodes)
    assert [finding.check for finding in check_kernel(tmp_path, box)] == wrong


def test_limits_are_notes() -> None:
    box = machine(ram_bytes=64 * GIB)
    limited = replace(
        box, ram_limit_bytes=GIB, ram_total_bytes=64 * GIB, cpu=replace(box.cpu, quota=0.5, affinity=8)
    )
    found = list(check_limits(limited))
    assert [finding.check for finding in found if finding.check == "cgroup"] == ["cgroup", "cgroup"]
    assert not any(finding.wrong for finding in found)


def test_what_no_longer_runs_is_named() -> None:
    settings = read_settings()
    settings.deployments_dir.mkdir(parents=True)
    save_record(
        settings.deployments_dir, a_deployment("gone", process=None, starter=None, phase=Phase.STARTING)
    )
    (settings.deployments_dir / "broken.json").write_text("{")
    found = list(check_state(settings))
    assert [(finding.wrong, finding.fix) for finding in found] == [
        (True, "launcher stop broken"),
        (True, "launcher stop gone, or launcher restart gone"),
    ]


def test_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert [finding.wrong for finding in check_token()] == [True]
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    assert list(check_token()) == []


def test_the_disk_is_measured_on_a_real_file(tmp_path: Path) -> None:
    assert disk_speed(tmp_path) is None
    (tmp_path / "m.gguf").write_bytes(bytes(16 << 20))
    speed = disk_speed(tmp_path)
    assert speed is None or speed > 0


def test_its_exit_code_says_whether_something_is_wrong(tmp_path: Path) -> None:
    env = {**os.environ, "LAUNCHER_ENGINE": str(tmp_path / "none"), "LAUNCHER_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "doctor", "--json"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    document = json.loads(done.stdout)
    assert (done.returncode, document["well"]) == (1, False)
    assert document["findings"][0]["wrong"]
    assert all(set(finding) == {"check", "wrong", "text", "fix"} for finding in document["findings"])


def test_an_engine_that_is_not_there_is_wrong_once(tmp_path: Path) -> None:
    wrong = [finding for finding in examine(tmp_path / "none") if finding.check == "engine"]
    assert len(wrong) == 1
    assert "none" in wrong[0].text
