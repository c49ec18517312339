"""A projector and a draft model, simulated against the engine's own log with everything loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.machine.machine import Device
from launcher.models.local import open_path
from launcher.plan.amounts import HOST
from launcher.plan.companions import DraftWish
from launcher.plan.memory.companion_memory import Companions, Draft, beside, draft_question
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.oracle import Answer, ProjectorAnswer, ProjectorQuestion, Question, Refusal
from launcher.simulate.client import Simulators
from tests.make_projector import make_projector
from tests.plan.shapes import machine
from tests.simulate.engine_log import differences, load_with_engine, software_gpus

ROUNDING_MIB = 0.1


def gaps(
    server: Path, main: Question, beside: tuple[str, ...], *answers: Answer | ProjectorAnswer | Refusal
) -> dict[tuple[str, str], float]:
    """What differs by more than rounding, the model and all that is beside it together, in MiB."""
    answered = [answer for answer in answers if not isinstance(answer, Refusal)]
    assert len(answered) == len(answers), answers
    load = load_with_engine(server, main, beside=beside)
    return {key: gap for key, gap in differences(load, *answered).items() if abs(gap) > ROUNDING_MIB}


def with_projector(
    server: Path, simulators: Simulators, main: Question, path: Path, where: str
) -> dict[tuple[str, str], float]:
    question = ProjectorQuestion(
        model=str(path), devices=main.devices, where=where, flash_attn=main.flash_attn
    )
    flags = ("--mmproj", str(path), "-mmdev", "none" if where == HOST else where)
    projector = simulators.simulate_projector(question)
    return gaps(server, main, flags, simulators.simulate(main), projector)


def with_draft(
    server: Path, simulators: Simulators, main: Question, path: Path, wish: DraftWish, *flags: str
) -> dict[tuple[str, str], float]:
    draft = Draft(wish=wish, model=open_path(path).model, path=str(path), oracle=simulators)
    question = draft_question(draft, main, software_gpus(2), ())
    flags = ("-md", str(path), "--spec-type", "draft-simple", "--no-warmup", *flags)
    main = replace(main, n_draft=3)
    return gaps(server, main, flags, simulators.simulate(main), simulators.simulate(question))


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["gemma3", "mlp"])
@pytest.mark.parametrize("flash", [FlashAttention.AUTO, FlashAttention.OFF])
def test_a_projector_on_the_host(
    kind: str,
    flash: FlashAttention,
    engine: Engine,
    simulators: Simulators,
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
    simulators: Simulators,
    models: dict[str, Path],
    tmp_path: Path,
) -> None:
    path = make_projector(tmp_path / "mm.gguf", kind=kind)
    main = Question(model=str(models["gemma3"]), devices=software_gpus(2), ctx_size=1024)

    assert with_projector(vulkan_engine.path, simulators, main, path, where) == {}


@pytest.mark.engine
@pytest.mark.parametrize("n_parallel", [1, 4])
def test_a_draft_model_on_the_host(
    n_parallel: int, engine: Engine, simulators: Simulators, models: dict[str, Path]
) -> None:
    main = Question(model=str(models["qwen3moe"]), devices=(), ctx_size=4096, n_parallel=n_parallel)

    assert with_draft(engine.path, simulators, main, models["llama"], DraftWish(path="")) == {}


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("split", "wish", "flags"),
    [
        ((1.0, 3.0), DraftWish(path=""), ()),
        ((), DraftWish(path="", devices=("Vulkan1",)), ("-devd", "Vulkan1")),
        ((), DraftWish(path="", devices=()), ("-devd", "none")),
        (
            (1.0, 3.0),
            DraftWish(path="", n_gpu_layers=2, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0),
            ("-ngld", "2", "-ctkd", "q8_0", "-ctvd", "q8_0"),
        ),
    ],
)
def test_a_draft_model_on_software_gpus(
    split: tuple[float, ...],
    wish: DraftWish,
    flags: tuple[str, ...],
    vulkan_engine: Engine,
    simulators: Simulators,
    models: dict[str, Path],
) -> None:
    main = Question(
        model=str(models["qwen3moe"]), devices=software_gpus(2), ctx_size=4096, tensor_split=split
    )

    assert with_draft(vulkan_engine.path, simulators, main, models["llama"], wish, *flags) == {}


class Nobody:
    """No simulator."""

    def simulate(self, question: Question) -> Refusal:
        return Refusal(reason=f"{question.model}: there is no engine", model_refused=False)


@pytest.mark.engine
@pytest.mark.parametrize("kv_unified", [True, False])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_an_estimated_draft_has_the_slots_of_the_model(
    name: str, *, kv_unified: bool, simulators: Simulators, models: dict[str, Path]
) -> None:
    """Slots that do not share have a sliding window each."""
    main = Question(
        model=str(models["qwen3moe"]), devices=(), ctx_size=8192, n_parallel=4, kv_unified=kv_unified
    )
    held = []
    for oracle in (simulators, Nobody()):
        draft = Draft(
            wish=DraftWish(path=""),
            model=open_path(models[name]).model,
            path=str(models[name]),
            oracle=oracle,
        )
        held += beside(Companions(draft=draft), main, machine(), ()).held

    simulated, estimated = held
    assert simulated.kv.n_bytes == estimated.kv.n_bytes


@pytest.mark.engine
def test_what_is_no_projector_is_refused(simulators: Simulators, models: dict[str, Path]) -> None:
    question = ProjectorQuestion(model=str(models["llama"]), devices=(), where=HOST)

    answer = simulators.simulate_projector(question)

    assert isinstance(answer, Refusal)
    assert answer.model_refused


@pytest.mark.engine
@pytest.mark.parametrize("devices", [(), software_gpus(2)])
def test_a_model_is_simulated_the_same_after_a_projector(
    devices: tuple[Device, ...], simulators: Simulators, models: dict[str, Path], tmp_path: Path
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
    with Simulators(tmp_path) as simulators:
        answer = simulators.simulate_projector(question)

    assert isinstance(answer, Refusal)
    assert not answer.model_refused
    assert "libmtmd" in answer.reason
