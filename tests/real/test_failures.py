"""Failures of the real engine: each gives its sentence, and if memory is the cause, a running server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.deployment.deploy import bring_up
from launcher.deployment.identity import lives
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import find_record, read_all
from launcher.deployment.supervisor.protect import left_groups, make_group
from launcher.deployment.supervisor.ready import LoadFailed
from launcher.deployment.takedown import tidy
from launcher.engine.find import Engine
from launcher.engine.log.cause import CauseKind
from tests.serving import SMALL, a_request, fake_command, stub_model, until

pytestmark = pytest.mark.engine

MIB = 1 << 20


@pytest.fixture
def memory_group() -> None:
    """Skips where no memory cgroup can be made."""
    group = make_group("probe", 64 * MIB)
    if group is None:
        pytest.skip("no memory cgroup can be made here: neither v1's tree nor a delegated v2 one is writable")
    group.remove()


@pytest.mark.usefixtures("memory_group")
def test_a_group_too_small_is_killed_by_the_kernel_and_said(
    deployments: Path, engine: Engine, default_model: Path
) -> None:
    command = (str(engine.path), *SMALL, "--load-mode", "none")
    with pytest.raises(LoadFailed) as caught:
        bring_up(deployments, a_request("m", command, default_model, memory_bytes=60 * MIB))
    assert caught.value.cause.kind is CauseKind.OUT_OF_MEMORY
    assert caught.value.cause.where == "host"
    assert caught.value.message.startswith("m: the kernel killed llama-server: its memory limit was reached")
    assert read_all(deployments) == ()


@pytest.mark.usefixtures("memory_group")
def test_a_group_large_enough_holds_the_server(
    deployments: Path, engine: Engine, default_model: Path
) -> None:
    command = (str(engine.path), *SMALL)
    deployment = bring_up(deployments, a_request("m", command, default_model, memory_bytes=2048 * MIB))
    groups = Path(f"/proc/{deployment.pid}/cgroup").read_text()
    assert f"launcher-m-{deployment.supervisor.pid if deployment.supervisor else None}" in groups


@pytest.mark.usefixtures("memory_group")
def test_the_group_of_a_killed_supervisor_goes_with_the_next_command(
    deployments: Path, tmp_path: Path
) -> None:
    request = a_request("m", fake_command(), stub_model(tmp_path), memory_bytes=2048 * MIB)
    deployment = bring_up(deployments, request)
    assert deployment.supervisor is not None
    os.kill(deployment.supervisor.pid, signal.SIGKILL)
    name = f"launcher-m-{deployment.supervisor.pid}"
    until(lambda: name in [path.name for path in left_groups()])
    until(lambda: not lives(deployment.pid or 0))
    tidy(deployments)
    assert name not in [path.name for path in left_groups()]


def test_one_that_is_killed_comes_back(deployments: Path, engine: Engine, default_model: Path) -> None:
    first = bring_up(deployments, a_request("m", (str(engine.path), *SMALL), default_model, keep_up=True))
    assert first.pid is not None
    psutil.Process(first.pid).kill()

    def again() -> bool:
        entry = find_record(deployments, "m")
        return isinstance(entry, Deployment) and entry.restarts == 1 and entry.phase is Phase.READY

    until(again)


def test_the_canary_reads_a_prompt_that_fills_the_context(
    deployments: Path, engine: Engine, default_model: Path
) -> None:
    phases: list[str] = []
    bring_up(
        deployments,
        a_request("m", (str(engine.path), *SMALL), default_model, canary=True),
        on_progress=lambda step: phases.append(step.phase),
    )
    entry = find_record(deployments, "m")
    assert isinstance(entry, Deployment)
    assert "task.n_tokens = 504" in Path(entry.log_path).read_text() or "canary" in phases


class Box:
    """`launcher` as a process, with an engine that may take so many MiB of address space."""

    def __init__(self, engine: Path, home: Path, limit_mib: int) -> None:
        self.wrapper = home / "llama-server"
        home.mkdir(parents=True, exist_ok=True)
        self.wrapper.write_text(
            "#!/bin/sh\n"
            'case " $* " in *" -m "*) '
            f'MALLOC_ARENA_MAX=1 exec prlimit --as={limit_mib * MIB} {engine} "$@";; esac\n'
            f'exec {engine} "$@"\n'
        )
        self.wrapper.chmod(0o755)
        self.env = {**os.environ, "LAUNCHER_HOME": str(home), "GGML_VK_VISIBLE_DEVICES": "0"}

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def json(self, *words: str) -> Any:
        done = self.type(*words, "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)


STRETCHED = ("--", "--rope-scaling", "yarn", "--rope-scale", "4")
"""Without it llama-server serves no more than the 8192 tokens that the model was trained for."""
LIMIT_MIB = 1240
"""Of address space. Without a limit the engine took 1075 MiB with a q8_0 cache (383) and compute (42); an f16
cache takes 337 more. Measured with compiled shaders and one malloc arena: each thread's own reserves 64 MiB."""


@pytest.fixture
def box(vulkan_engine: Engine, tmp_path: Path) -> Iterator[Box]:
    box = Box(vulkan_engine.path, tmp_path / "launcher", LIMIT_MIB)
    yield box
    box.type("stop", "--all")


def compile_shaders(engine: Path, model: Path, home: Path) -> None:
    """Once without a limit: the software driver's compiler takes address space that a warm cache spares."""
    roomy = Box(engine, home, 1 << 20)
    words = (
        "up",
        str(model),
        "-c",
        "32768",
        "--kv",
        "q8_0",
        "--engine",
        str(roomy.wrapper),
        "--name",
        "w",
        "-y",
    )
    roomy.type(*words, *STRETCHED)
    roomy.type("stop", "--all")


@pytest.mark.vulkan
def test_a_gpu_without_memory_ends_in_a_running_server(
    box: Box, vulkan_engine: Engine, default_model: Path, tmp_path: Path
) -> None:
    # prlimit gives the genuine ErrorOutOfDeviceMemory: the KV cache of 32768 tokens does not fit, its q8_0
    # does.
    compile_shaders(vulkan_engine.path, default_model, tmp_path / "warm")
    words = (
        "up",
        str(default_model),
        "-c",
        "32768",
        "-np",
        "4",
        "--engine",
        str(box.wrapper),
        "--name",
        "m",
        "-y",
    )
    first = box.type(*words, *STRETCHED)
    assert first.returncode == 0, first.stderr
    said = next(line for line in first.stderr.splitlines() if line.startswith("save: "))
    assert said.startswith("save: llama-server ran out of memory: it could not allocate 720.0 MiB on Vulkan0")
    assert "trying again: KV cache q8_0 instead of f16" in said
    [running] = box.json("ps")
    assert running["plan"]["settings"]["cache_type_k"] == "q8_0"
    assert "ran out of memory" in running["plan"]["reasons"][-1]
    box.type("stop", "m")

    again = box.type(*words, *STRETCHED)
    assert "save: as it was saved before: " in again.stderr
    assert "KV cache q8_0 instead of f16" in again.stderr
    assert "trying again" not in again.stderr
    outcomes = [entry["outcome"] for entry in box.json("history")]
    assert outcomes[0] == "failed"
    assert outcomes[-2:] == ["ready", "ready"]
    box.type("stop", "m")

    final = box.type(*words, "--no-retry", *STRETCHED)
    assert final.returncode == 5
    assert "it could not allocate 720.0 MiB on Vulkan0" in final.stderr
