"""A machine with a GPU, as NVML tells, and an engine for the processor: said, and nothing starts unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from tests.fake_nvml import nvml_library
from tests.make_gguf import make_gguf
from tests.real.test_story import Shell

pytestmark = pytest.mark.engine


@pytest.fixture
def shell(engine: Engine, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(engine, tmp_path / "launcher")
    shell.env |= {"LD_LIBRARY_PATH": str(nvml_library(tmp_path)), "FAKE_NVML": "two"}
    yield shell
    shell.type("stop", "--all")


def test_up_goes_on_only_when_told_to(shell: Shell, tmp_path: Path) -> None:
    (model,) = make_gguf(tmp_path / "m.gguf", "llama")
    words = ("up", str(model), "-c", "256", "--name")
    refused = shell.type(*words, "refused")
    assert refused.returncode == 5
    assert "THE GPU IS NOT USED: NVIDIA GeForce RTX 3090" in refused.stderr
    assert refused.stderr.splitlines()[-1] == (
        "hint: launcher engine install takes one that uses it; to go on with the processor alone: --cpu"
    )
    assert shell.json("ps") == []
    planned = shell.type("plan", str(model), "-c", "256")
    assert "all in RAM: the engine lists no device, but the machine has NVIDIA" in planned.stdout
    agreed = shell.type(*words, "agreed", "-y")
    assert agreed.returncode == 0, agreed.stderr
    assert "THE GPU IS NOT USED" in agreed.stderr
    asked_for = shell.type(*words, "asked-for", "--cpu")
    assert asked_for.returncode == 0, asked_for.stderr
    assert "THE GPU" not in asked_for.stderr
    assert {entry["name"] for entry in shell.json("ps")} == {"agreed", "asked-for"}


def test_the_processor_alone_is_planned_for_where_there_is_a_gpu(engine: Engine, tmp_path: Path) -> None:
    shell = Shell(engine, tmp_path / "launcher")
    (model,) = make_gguf(tmp_path / "m.gguf", "llama")

    def devices(*words: str) -> str:
        machine = ("--gpu", "3090", "--ram", "64G")
        argv = shell.json("plan", str(model), "-c", "256", *machine, *words)["argv"]
        return str(argv[argv.index("-dev") + 1])

    assert devices() == "CUDA0"
    assert devices("--gpus", "none") == "none"
    shown = shell.type("plan", str(model), "--gpu", "3090", "--ram", "64G", "--gpus", "none").stdout
    assert "all in RAM: as --gpus none says" in shown
