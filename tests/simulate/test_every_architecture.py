"""Every architecture llama.cpp knows simulates, and agrees with llama.cpp's own no_alloc pass."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.gguf.known import ARCHITECTURES
from launcher.hub.local import open_path
from launcher.machine import Backend, Device
from launcher.plan.oracle import Answer, Question
from launcher.plan.plan import HOST
from launcher.simulate.client import Simulators
from launcher.units import GIB, MIB
from tests.simulate.engine_log import software_gpus

N_MODELS = 128
Fit = dict[str, tuple[int, ...]]


def fit_print(tool: Path, model: Path, ctx_size: int, n_devices: int) -> Fit:
    """llama-fit-params --fit-print: device -> (model, context, compute) in whole MiB."""
    environment = {**os.environ, "GGML_VK_VISIBLE_DEVICES": ",".join("0" * n_devices)}
    command = [str(tool), "-m", str(model), "-c", str(ctx_size), "-np", "1", "--fit-print", "on"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: tuple(int(word) for word in words[1:]) for words in lines if len(words) == 4}


def simulate_fit(
    simulators: Simulators, model: Path, ctx_size: int, devices: tuple[Device, ...]
) -> Fit | str:
    """The same from the simulator, with that tool's parameters; it does not count CPU_REPACK."""
    question = Question(model=str(model), devices=devices, ctx_size=ctx_size, kv_unified=False, n_outputs=0)
    answer = simulators.simulate_like_fit(question)
    if not isinstance(answer, Answer):
        return answer.reason
    sums = {name: [0, 0, 0] for name in (*(device.id for device in devices), "Host")}
    for row in answer.rows:
        if row.buffer_type != "CPU_REPACK":
            into = sums["Host" if row.where == HOST else row.where]
            into[0] += row.weights_bytes
            into[1] += row.kv_bytes + row.recurrent_bytes
            into[2] += row.compute_bytes
    return {name: tuple(size // MIB for size in sizes) for name, sizes in sums.items()}


def disagreements(
    tool: Path,
    simulators: Simulators,
    models: tuple[Path, ...],
    devices: tuple[Device, ...],
    ctx_size: int = 1024,
) -> dict[str, tuple[object, object]]:
    found: dict[str, tuple[object, object]] = {}
    for model in models:
        real = fit_print(tool, model, ctx_size, len(devices))
        simulated = simulate_fit(simulators, model, ctx_size, devices)
        if simulated != real:
            found[model.name] = (simulated, real)
    return found


@pytest.mark.engine
@pytest.mark.parametrize("ctx_size", [1024, 8192])
def test_all_agree_with_fit_params_on_cpu(
    ctx_size: int, engine: Engine, simulators: Simulators, every_architecture: tuple[Path, ...]
) -> None:
    assert len(every_architecture) == N_MODELS
    tool = engine.folder / "llama-fit-params"
    assert disagreements(tool, simulators, every_architecture, (), ctx_size) == {}


@pytest.mark.vulkan
def test_all_agree_with_fit_params_on_two_software_gpus(
    vulkan_engine: Engine, simulators: Simulators, every_architecture: tuple[Path, ...]
) -> None:
    tool = vulkan_engine.folder / "llama-fit-params"

    assert disagreements(tool, simulators, every_architecture, software_gpus(2)) == {}


@pytest.mark.vulkan
def test_all_agree_with_fit_params_on_one_software_gpu(
    vulkan_engine: Engine, simulators: Simulators, every_architecture: tuple[Path, ...]
) -> None:
    tool = vulkan_engine.folder / "llama-fit-params"
    some = every_architecture[::3]  # a start of a Vulkan engine takes 0.3 s

    assert disagreements(tool, simulators, some, software_gpus(1), ctx_size=16384) == {}


@pytest.mark.engine
def test_all_are_known_by_name(every_architecture: tuple[Path, ...]) -> None:
    found = {str(open_path(path).model.metadata["general.architecture"]) for path in every_architecture}

    assert found <= ARCHITECTURES


@pytest.mark.vulkan
def test_real_widths_agree_too(vulkan_engine: Engine, simulators: Simulators, kimi: Path) -> None:
    real = fit_print(vulkan_engine.folder / "llama-fit-params", kimi, 32768, 3)

    assert simulate_fit(simulators, kimi, 32768, software_gpus(3)) == real


@pytest.mark.engine
@pytest.mark.parametrize("backend", [Backend.CUDA, Backend.METAL, Backend.SYCL])
def test_all_simulate_on_backends_that_are_not_here(
    backend: Backend, simulators: Simulators, every_architecture: tuple[Path, ...]
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
