"""Every architecture llama.cpp knows simulates, and agrees with llama.cpp's own no_alloc pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.gguf.architecture_keys import ARCHITECTURES
from launcher.machine.machine import Backend, Device
from launcher.models.local import open_path
from launcher.plan.oracle import Answer, Question
from launcher.simulate.client import SimulatorPool
from launcher.units import GIB
from tests.simulate.engine_log import software_gpus
from tests.simulate.fit_params import disagreements

N_MODELS = 128


@pytest.mark.engine
@pytest.mark.parametrize("ctx_size", [1024, 8192])
def test_all_agree_with_fit_params_on_cpu(
    ctx_size: int, engine: Engine, simulators: SimulatorPool, every_architecture: tuple[Path, ...]
) -> None:
    assert len(every_architecture) == N_MODELS
    tool = engine.folder / "llama-fit-params"
    assert disagreements(tool, simulators, every_architecture, (), ctx_size) == {}


@pytest.mark.vulkan
def test_all_agree_with_fit_params_on_two_software_gpus(
    vulkan_engine: Engine, simulators: SimulatorPool, every_architecture: tuple[Path, ...]
) -> None:
    tool = vulkan_engine.folder / "llama-fit-params"

    assert disagreements(tool, simulators, every_architecture, software_gpus(2)) == {}


@pytest.mark.vulkan
def test_all_agree_with_fit_params_on_one_software_gpu(
    vulkan_engine: Engine, simulators: SimulatorPool, every_architecture: tuple[Path, ...]
) -> None:
    tool = vulkan_engine.folder / "llama-fit-params"
    some = every_architecture[::3]  # a start of a Vulkan engine takes 0.3 s

    assert disagreements(tool, simulators, some, software_gpus(1), ctx_size=16384) == {}


@pytest.mark.engine
def test_all_are_known_by_name(every_architecture: tuple[Path, ...]) -> None:
    found = {str(open_path(path).model.metadata["general.architecture"]) for path in every_architecture}

    assert found <= ARCHITECTURES


@pytest.mark.engine
@pytest.mark.parametrize("backend", [Backend.CUDA, Backend.METAL, Backend.SYCL])
def test_all_simulate_on_backends_that_are_not_here(
    backend: Backend, simulators: SimulatorPool, every_architecture: tuple[Path, ...]
) -> None:
    devices = tuple(
        Device(id=f"{backend}{i}", backend=backend, name="", total_bytes=24 * GIB, free_bytes=None)
        for i in range(2)
    )
    refusals = {}
    for model in every_architecture:
        for ctx_size in (256, 16384):
            question = Question(model=str(model), devices=devices, ctx_size=ctx_size)
            answer = simulators.simulate(question)
            if not isinstance(answer, Answer):
                refusals[model.name, ctx_size] = answer.reason

    assert refusals == {}
