"""Simulated against started: the engine's own load log, row by row, buffer type by buffer type.

Short form of `scripts/bench simulate`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.plan.oracle import Answer, Question
from launcher.simulate.client import SimulatorPool
from tests.simulate.cases import configurations
from tests.simulate.engine_log import differences, load_with_engine, software_gpus

ROUNDING_MIB = 0.1
MODELS = ("deepseek2", "qwen3moe", "gemma3", "llama")


def compare(server: Path, simulators: SimulatorPool, question: Question) -> dict[tuple[str, str], float]:
    """Return what differs by more than rounding, in MiB; the graph splits must be the same."""
    answer = simulators.simulate(question)
    assert isinstance(answer, Answer), answer
    load = load_with_engine(server, question)
    assert answer.graph_splits == load.splits
    return {key: gap for key, gap in differences(load, answer).items() if abs(gap) > ROUNDING_MIB}


@pytest.mark.engine
@pytest.mark.parametrize("name", MODELS)
def test_cpu_rows_are_the_engines(
    name: str, engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    gaps = {
        what: compare(engine.path, simulators, question)
        for what, question in configurations({name: models[name]}, ())
    }

    assert len(gaps) == 3
    assert not {what: gap for what, gap in gaps.items() if gap}


@pytest.mark.vulkan
@pytest.mark.parametrize("name", MODELS)
def test_rows_on_software_gpus_are_the_engines(
    name: str, vulkan_engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    questions = [
        (what, question)
        for what, question in configurations({name: models[name]}, software_gpus(3))
        if question.devices
    ]

    gaps = {what: compare(vulkan_engine.path, simulators, question) for what, question in questions}

    assert len(gaps) >= 7
    assert not {what: gap for what, gap in gaps.items() if gap}


@pytest.mark.engine
def test_the_default_model_with_its_tied_embedding(
    engine: Engine, simulators: SimulatorPool, default_model: Path
) -> None:
    question = Question(model=str(default_model), devices=(), ctx_size=2048, n_parallel=4)

    assert compare(engine.path, simulators, question) == {}


@pytest.mark.vulkan
def test_real_devices_of_the_engine_do_not_mix_in(
    vulkan_engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    question = Question(model=str(models["qwen3moe"]), devices=software_gpus(2), ctx_size=4096)

    with SimulatorPool(vulkan_engine.folder) as others:
        theirs, ours = others.simulate(question), simulators.simulate(question)
    assert isinstance(theirs, Answer)
    assert isinstance(ours, Answer)
    assert replace(theirs, engine=ours.engine) == ours


@pytest.mark.vulkan
@pytest.mark.parametrize("name", ["falcon-h1-dense.gguf", "qwen3next-moe.gguf", "kimi-linear-moe.gguf"])
def test_recurrent_state(
    name: str, vulkan_engine: Engine, simulators: SimulatorPool, every_architecture: tuple[Path, ...]
) -> None:
    (path,) = [path for path in every_architecture if path.name == name]
    question = Question(model=str(path), devices=software_gpus(2), ctx_size=4096, n_parallel=4)

    assert compare(vulkan_engine.path, simulators, question) == {}
