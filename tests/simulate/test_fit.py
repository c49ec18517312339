"""The engine's own `--fit` on virtual devices, beside llama-fit-params on the CPU and on software GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.machine.machine import Backend, Device
from launcher.plan.oracle import Answer, FitQuestion, Fitted, Question, Refusal
from launcher.simulate.client import SimulatorPool
from launcher.units import GIB, MIB
from tests.conftest import missing
from tests.simulate.fit_lines import GAVE_UP, Outcome, by_simulator, by_tool, tool_question

ON_GPUS = (
    ("qwen3moe", 1, ""),
    ("qwen3moe", 1, "-fitt 1850"),
    ("qwen3moe", 1, "-c 4096 -fitt 1900 -ctk q8_0 -ctv q8_0"),
    ("deepseek2", 1, "-fitt 1930"),
    ("gemma3", 1, "-fitt 1960 -fitc 512"),
    ("llama", 1, "-np 4 -fitt 1950"),
    ("qwen3moe", 2, "-fitt 1900,1960 -c 8192"),
    ("qwen3moe", 2, "-fitt 1960"),
    ("deepseek2", 2, "-fitt 1950 -fitc 1024"),
    ("llama", 2, "-fitt 1980"),
)
"""A model, how many GPUs, and flags: from no change to one that takes a part of a layer."""
GIVEN_UP = (
    ("qwen3moe", 1, "-fitt 1900 -ngl 99"),
    ("qwen3moe", 1, "-fitt 1900 -cmoe"),
    ("qwen3moe", 2, "-fitt 1960 -ts 1,3"),
)


@pytest.mark.vulkan
@pytest.mark.parametrize(("model", "n_gpus", "flags"), ON_GPUS)
def test_it_leaves_a_line_as_that_tool_does(
    model: str,
    n_gpus: int,
    flags: str,
    vulkan_engine: Engine,
    simulators: SimulatorPool,
    models: dict[str, Path],
) -> None:
    real = by_tool(_tool(vulkan_engine), models[model], n_gpus, flags)

    assert isinstance(real, Outcome)
    assert by_simulator(simulators, models[model], n_gpus, flags) == real


@pytest.mark.vulkan
@pytest.mark.parametrize(("model", "n_gpus", "flags"), GIVEN_UP)
def test_it_gives_up_where_that_tool_does(
    model: str,
    n_gpus: int,
    flags: str,
    vulkan_engine: Engine,
    simulators: SimulatorPool,
    models: dict[str, Path],
) -> None:
    assert by_tool(_tool(vulkan_engine), models[model], n_gpus, flags) == GAVE_UP
    assert by_simulator(simulators, models[model], n_gpus, flags) == GAVE_UP


@pytest.mark.engine
@pytest.mark.parametrize("flags", ["", "-c 2048", "-fitt 9999999"])
def test_without_a_device_it_counts_the_hosts_memory(
    flags: str, engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    real = by_tool(_tool(engine), models["llama"], 0, flags)

    assert by_simulator(simulators, models["llama"], 0, flags) == real


@pytest.mark.engine
def test_the_hosts_memory_is_the_planned_machines(simulators: SimulatorPool, models: dict[str, Path]) -> None:
    asked = tool_question(models["llama"], 0, "-fitt 0")
    enough, short = (
        simulators.fit(
            FitQuestion(question=asked.question, targets=(0,), least_ctx_size=512, host_bytes=size)
        )
        for size in (GIB, 14 * MIB)
    )

    assert isinstance(enough, Fitted)
    assert isinstance(short, Fitted)
    assert short.ctx_size < enough.ctx_size


@pytest.mark.engine
def test_a_draft_model_takes_its_share(simulators: SimulatorPool, models: dict[str, Path]) -> None:
    card = Device(id="CUDA0", backend=Backend.CUDA, name="A100", total_bytes=GIB, free_bytes=None)
    question = Question(model=str(models["qwen3moe"]), devices=(card,), ctx_size=4096)
    measured = simulators.simulate_like_fit(question)
    assert isinstance(measured, Answer)
    row = measured.rows[0]
    full = replace(card, free_bytes=row.weights_bytes + row.kv_bytes + row.compute_bytes + 8 * MIB)
    question = replace(question, devices=(full,))
    alone = FitQuestion(question=question, targets=(0,), least_ctx_size=4096, host_bytes=GIB)
    draft = replace(question, model=str(models["llama"]))

    assert _layers(simulators, alone) is None
    assert _layers(simulators, replace(alone, companion=draft)) is not None


@pytest.mark.engine
def test_a_model_that_does_not_load_is_refused(simulators: SimulatorPool, tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"GGUF")
    found = simulators.fit(tool_question(path, 0, ""))

    assert isinstance(found, Refusal)
    assert found.model_refused


def _tool(engine: Engine) -> Path:
    tool = engine.folder / "llama-fit-params"
    if not tool.exists():
        raise missing(f"the engine in {engine.folder} was built without llama-fit-params")
    return tool


def _layers(simulators: SimulatorPool, question: FitQuestion) -> int | None:
    fitted = simulators.fit(question)
    assert isinstance(fitted, Fitted), fitted
    return fitted.n_gpu_layers
