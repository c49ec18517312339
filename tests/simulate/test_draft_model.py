"""Draft models, simulated and compared with the engine's own log of model and draft loaded together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.models.local import open_path
from launcher.plan.companions import Companions, Draft, DraftRequest
from launcher.plan.memory.companion_memory import size_companions
from launcher.plan.memory.companion_questions import draft_question
from launcher.plan.memory.draft_memory import MainModel
from launcher.plan.modes import CacheType
from launcher.plan.oracle import Question, Refusal
from launcher.simulate.client import SimulatorPool
from tests.plan.shapes import machine
from tests.simulate.engine_log import gaps_with_companions, software_gpus


def with_draft(
    server: Path, simulators: SimulatorPool, main: Question, path: Path, wish: DraftRequest, *flags: str
) -> dict[tuple[str, str], float]:
    draft = Draft(request=wish, model=open_path(path).model, path=str(path), oracle=simulators)
    question = draft_question(draft, main, software_gpus(2), ())
    flags = ("-md", str(path), "--spec-type", "draft-simple", "--no-warmup", *flags)
    main = replace(main, n_draft=3)
    return gaps_with_companions(server, main, flags, simulators.simulate(main), simulators.simulate(question))


@pytest.mark.engine
@pytest.mark.parametrize("n_parallel", [1, 4])
def test_a_draft_model_on_the_host(
    n_parallel: int, engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    main = Question(model=str(models["qwen3moe"]), devices=(), ctx_size=4096, n_parallel=n_parallel)

    assert with_draft(engine.path, simulators, main, models["llama"], DraftRequest(path="")) == {}


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("split", "wish", "flags"),
    [
        ((1.0, 3.0), DraftRequest(path=""), ()),
        ((), DraftRequest(path="", devices=("Vulkan1",)), ("-devd", "Vulkan1")),
        ((), DraftRequest(path="", devices=()), ("-devd", "none")),
        (
            (1.0, 3.0),
            DraftRequest(path="", n_gpu_layers=2, cache_type_k=CacheType.Q8_0, cache_type_v=CacheType.Q8_0),
            ("-ngld", "2", "-ctkd", "q8_0", "-ctvd", "q8_0"),
        ),
    ],
)
def test_a_draft_model_on_software_gpus(
    split: tuple[float, ...],
    wish: DraftRequest,
    flags: tuple[str, ...],
    vulkan_engine: Engine,
    simulators: SimulatorPool,
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
    name: str, *, kv_unified: bool, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    """Slots that do not share have a sliding window each."""
    main = Question(
        model=str(models["qwen3moe"]), devices=(), ctx_size=8192, n_parallel=4, kv_unified=kv_unified
    )
    model = open_path(models["qwen3moe"]).model
    beside = MainModel(question=main, model=model, ledger=(), oracle=simulators)
    held = []
    for oracle in (simulators, Nobody()):
        draft = Draft(
            request=DraftRequest(path=""),
            model=open_path(models[name]).model,
            path=str(models[name]),
            oracle=oracle,
        )
        held += size_companions(Companions(draft=draft), beside, machine()).rows

    simulated, estimated = held
    assert simulated.kv.n_bytes == estimated.kv.n_bytes
