"""Projectors, simulated and compared with the engine's own log of model and projector loaded together."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.machine.machine import Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import FlashAttention
from launcher.plan.oracle import ProjectorQuestion, Question, Refusal
from launcher.simulate.client import SimulatorPool
from tests.make_projector import make_projector
from tests.simulate.engine_log import gaps_with_companions, software_gpus


def with_projector(
    server: Path, simulators: SimulatorPool, main: Question, path: Path, where: str
) -> dict[tuple[str, str], float]:
    question = ProjectorQuestion(
        model=str(path), devices=main.devices, where=where, flash_attn=main.flash_attn
    )
    flags = ("--mmproj", str(path), "-mmdev", "none" if where == HOST else where)
    projector = simulators.simulate_projector(question)
    return gaps_with_companions(server, main, flags, simulators.simulate(main), projector)


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["gemma3", "mlp"])
@pytest.mark.parametrize("flash", [FlashAttention.AUTO, FlashAttention.OFF])
def test_a_projector_on_the_host(
    kind: str,
    flash: FlashAttention,
    engine: Engine,
    simulators: SimulatorPool,
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    path = make_projector(tmp_path / "mm.gguf", kind=kind)
    main = Question(model=str(models["gemma3"]), devices=(), ctx_size=1024, flash_attn=flash)

    assert with_projector(engine.path, simulators, main, path, HOST) == {}


@pytest.mark.vulkan
@pytest.mark.parametrize(("kind", "where"), [("gemma3", "Vulkan0"), ("mlp", "Vulkan1"), ("gemma3", HOST)])
def test_a_projector_on_software_gpus(
    kind: str,
    where: str,
    vulkan_engine: Engine,
    simulators: SimulatorPool,
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    path = make_projector(tmp_path / "mm.gguf", kind=kind)
    main = Question(model=str(models["gemma3"]), devices=software_gpus(2), ctx_size=1024)

    assert with_projector(vulkan_engine.path, simulators, main, path, where) == {}


@pytest.mark.engine
def test_what_is_no_projector_is_refused(simulators: SimulatorPool, models: dict[str, Path]) -> None:
    question = ProjectorQuestion(model=str(models["llama"]), devices=(), where=HOST)

    answer = simulators.simulate_projector(question)

    assert isinstance(answer, Refusal)
    assert answer.model_refused


@pytest.mark.engine
@pytest.mark.parametrize("devices", [(), software_gpus(2)])
def test_a_model_is_simulated_the_same_after_a_projector(
    devices: tuple[Device, ...], simulators: SimulatorPool, models: dict[str, Path], tmp_path: Path
) -> None:
    question = Question(model=str(models["gemma3"]), devices=devices, ctx_size=2048)
    before = simulators.simulate(question)

    simulators.simulate_projector(
        ProjectorQuestion(
            model=str(make_projector(tmp_path / "mm.gguf")),
            devices=devices,
            where=devices[0].id if devices else HOST,
        )
    )

    assert simulators.simulate(question) == before


@pytest.mark.engine
def test_an_engine_without_libmtmd_cannot_simulate_a_projector(engine: Engine, tmp_path: Path) -> None:
    for library in engine.folder.glob("*.so*"):
        if "mtmd" not in library.name:
            (tmp_path / library.name).symlink_to(library)
    question = ProjectorQuestion(model=str(make_projector(tmp_path / "mm.gguf")), devices=(), where=HOST)
    with SimulatorPool(tmp_path) as simulators:
        answer = simulators.simulate_projector(question)

    assert isinstance(answer, Refusal)
    assert not answer.model_refused
    assert "libmtmd" in answer.reason
