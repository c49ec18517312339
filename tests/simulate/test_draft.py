"""Draft contexts on a model's states, simulated and compared with the engine's own log of both together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.engine.flags.companion_flags import read_companions
from launcher.models.local import open_path
from launcher.plan.companions import Companions, Draft, speculation_fields
from launcher.plan.memory.companion_questions import head_question, mtp_question
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import Answer, DraftAnswer, DraftQuestion, Question, Refusal
from launcher.simulate.client import SimulatorPool
from launcher.units import MIB
from tests.make_drafters import N_VOCAB, make_dflash, make_eagle3, make_mtp
from tests.simulate.engine_log import ROUNDING_MIB, load_with_engine, simulated_mib, software_gpus

LOG_ROUNDING = MIB // 100
MAIN_WIDTH, MAIN_VOCAB = 1024, 1024  # of tests.make_gguf's qwen3moe


@pytest.fixture(scope="module")
def drafters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("drafters")
    heads = {"layers": (1, 5, 9), "n_vocab": MAIN_VOCAB}
    return {
        "mtp": make_mtp(folder / "mtp.gguf"),
        "without": make_mtp(folder / "without.gguf", n_nextn=0),
        "eagle3": make_eagle3(
            folder / "eagle3.gguf", n_target=MAIN_WIDTH, layers=(1, 5, 9), n_vocab=MAIN_VOCAB
        ),
        "dflash": make_dflash(folder / "dflash.gguf", n_embd=MAIN_WIDTH, **heads),
        "dspark": make_dflash(folder / "dspark.gguf", n_embd=MAIN_WIDTH, markov=True, **heads),
    }


def asked(main: Question, flags: tuple[str, ...], simulators: SimulatorPool) -> DraftQuestion:
    """The question about the drafter of these flags, as `check` asks it."""
    request = read_companions(flags)
    companions = Companions(**speculation_fields(request))
    if request.mtp is not None:
        return mtp_question(request.mtp, companions, companions.of_main(main))
    assert request.draft is not None
    path = request.draft.path
    draft = Draft(request=request.draft, model=open_path(Path(path)).model, path=path, oracle=simulators)
    return head_question(draft, companions, companions.of_main(main), main.devices, ())


def gaps(
    server: Path, simulators: SimulatorPool, main: Question, flags: tuple[str, ...]
) -> Mapping[tuple[str, str], float]:
    """What differs by more than rounding, in MiB, of the model and its drafter together."""
    question = asked(main, flags, simulators)
    alone, draft = simulators.simulate(question.main), simulators.simulate_draft(question)
    assert isinstance(alone, Answer), alone
    assert isinstance(draft, DraftAnswer), draft
    # the model's graphs, the drafter's, and the drafter's once more when it has samplers
    n_reserved = 3 if question.backend_sampling else 2
    load = load_with_engine(
        server, question.main, companion_flags=("--no-warmup", *flags), n_reserved=n_reserved
    )
    simulated = simulated_mib(alone, replace(alone, rows=draft.rows))
    assert len(simulated) >= 3
    found = {key: simulated.get(key, 0.0) - load.mib.get(key, 0.0) for key in {*simulated, *load.mib}}
    return {key: gap for key, gap in found.items() if abs(gap) > ROUNDING_MIB}


MTP_FLAGS = (
    (),
    ("--spec-draft-n-max", "1"),
    ("--spec-draft-n-max", "7", "-ctkd", "q8_0", "-ctvd", "q8_0"),
    ("--no-spec-draft-backend-sampling",),
)


@pytest.mark.engine
@pytest.mark.parametrize("more", MTP_FLAGS)
@pytest.mark.parametrize(("n_parallel", "kv_unified", "ctx_size"), [(1, True, 16384), (4, False, 32768)])
def test_mtp_on_the_host(
    more: tuple[str, ...],
    n_parallel: int,
    ctx_size: int,
    *,
    kv_unified: bool,
    engine: Engine,
    simulators: SimulatorPool,
    drafters: dict[str, Path],
) -> None:
    main = Question(
        model=str(drafters["mtp"]),
        devices=(),
        ctx_size=ctx_size,
        n_parallel=n_parallel,
        kv_unified=kv_unified,
    )
    assert gaps(engine.path, simulators, main, ("--spec-type", "draft-mtp", *more)) == {}


@pytest.mark.vulkan
@pytest.mark.parametrize(
    ("n_gpus", "split", "n_layers", "more"),
    [
        (1, (), None, ()),
        (2, (1.0, 1.0), None, MTP_FLAGS[2]),
        (2, (1.0, 3.0), None, ("--spec-draft-n-max", "2", "--no-spec-draft-backend-sampling")),
        (1, (), 3, ()),
        (2, (3.0, 1.0), 4, ()),
    ],
)
def test_mtp_on_software_gpus(
    n_gpus: int,
    split: tuple[float, ...],
    n_layers: int | None,
    more: tuple[str, ...],
    vulkan_engine: Engine,
    simulators: SimulatorPool,
    drafters: dict[str, Path],
) -> None:
    main = Question(
        model=str(drafters["mtp"]),
        devices=software_gpus(n_gpus),
        ctx_size=16384,
        n_parallel=2,
        tensor_split=split,
        n_gpu_layers=n_layers,
    )
    assert gaps(vulkan_engine.path, simulators, main, ("--spec-type", "draft-mtp", *more)) == {}


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["eagle3", "dflash", "dspark"])
@pytest.mark.parametrize("n_parallel", [1, 3])
def test_a_head_on_the_host(
    kind: str,
    n_parallel: int,
    engine: Engine,
    simulators: SimulatorPool,
    models: dict[str, Path],
    drafters: dict[str, Path],
) -> None:
    main = Question(model=str(models["qwen3moe"]), devices=(), ctx_size=4096, n_parallel=n_parallel)
    flags = ("-md", str(drafters[kind]), "--spec-type", f"draft-{kind}")
    assert gaps(engine.path, simulators, main, flags) == {}


@pytest.mark.vulkan
@pytest.mark.parametrize("kind", ["eagle3", "dflash", "dspark"])
@pytest.mark.parametrize("more", [(), ("-devd", "Vulkan1"), ("-ngld", "1", "-ctkd", "q8_0", "-ctvd", "q8_0")])
def test_a_head_on_software_gpus(
    kind: str,
    more: tuple[str, ...],
    vulkan_engine: Engine,
    simulators: SimulatorPool,
    models: dict[str, Path],
    drafters: dict[str, Path],
) -> None:
    main = Question(
        model=str(models["qwen3moe"]),
        devices=software_gpus(2),
        ctx_size=4096,
        n_parallel=2,
        tensor_split=(1.0, 1.0),
    )
    flags = ("-md", str(drafters[kind]), "--spec-type", f"draft-{kind}", *more)
    assert gaps(vulkan_engine.path, simulators, main, flags) == {}


@pytest.mark.engine
def test_a_model_without_mtp_blocks_is_refused(simulators: SimulatorPool, drafters: dict[str, Path]) -> None:
    main = Question(model=str(drafters["without"]), devices=(), ctx_size=4096)
    found = simulators.simulate_draft(asked(main, ("--spec-type", "draft-mtp"), simulators))
    assert isinstance(found, Refusal)
    assert found.model_refused


@pytest.mark.engine
def test_what_cannot_be_simulated_is_unanswered(simulators: SimulatorPool, drafters: dict[str, Path]) -> None:
    main = Question(
        model=str(drafters["mtp"]), devices=software_gpus(2), ctx_size=4096, split_mode=SplitMode.TENSOR
    )
    found = simulators.simulate_draft(asked(main, ("--spec-type", "draft-mtp"), simulators))
    assert isinstance(found, Refusal)
    assert found.is_unanswered


@pytest.mark.engine
def test_the_first_batch_adds_rows_of_logits_and_states(
    simulators: SimulatorPool, drafters: dict[str, Path]
) -> None:
    main = Question(model=str(drafters["mtp"]), devices=(), ctx_size=4096, n_parallel=2)
    found = simulators.simulate_draft(asked(main, ("--spec-type", "draft-mtp"), simulators))
    assert isinstance(found, DraftAnswer)
    # llama_context::output_reserve: the model's states of a batch, 2 x (1 + 3) rows of logits in place of 2;
    # the drafter's states, and three rows and a token for each row sampled on the device
    states, logits = 2048 * 4, N_VOCAB * 4
    expected = 2048 * states + 6 * logits + 2 * (states + 3 * logits + 4)
    assert sum(row.output_bytes for row in found.growth) == pytest.approx(expected, abs=2 * LOG_ROUNDING)


@pytest.mark.engine
@pytest.mark.parametrize(("kind", "rows"), [("eagle3", 512), ("dflash", 2 * 4)])
def test_the_rows_that_a_head_gives_out(
    kind: str, rows: int, simulators: SimulatorPool, models: dict[str, Path], drafters: dict[str, Path]
) -> None:
    """EAGLE-3's encoder an ubatch, DFlash 1 + 3 for each slot; as the engine allocates them when it serves."""
    main = Question(model=str(models["qwen3moe"]), devices=(), ctx_size=4096, n_parallel=2)
    flags = ("-md", str(drafters[kind]), "--spec-type", f"draft-{kind}")
    found = simulators.simulate_draft(asked(main, flags, simulators))
    assert isinstance(found, DraftAnswer)
    width = {"eagle3": 512, "dflash": MAIN_WIDTH}[kind]
    of_head = rows * 4 * (width + 4 * MAIN_VOCAB + 1)
    # of the model: states before three of its blocks for a batch of 2048, 2 x (1 + 3) rows of logits for 2
    of_model = 3 * 2048 * 4 * MAIN_WIDTH + 6 * 4 * MAIN_VOCAB
    expected = of_head + of_model - 2 * 4 * MAIN_VOCAB
    assert sum(row.output_bytes for row in found.growth) == pytest.approx(expected, abs=2 * LOG_ROUNDING)


@pytest.mark.engine
def test_large_batches_are_simulated_too(engine: Engine, drafters: Mapping[str, Path]) -> None:
    """A recurrence has 40 nodes a token in its graph: gigabytes are claimed, and next to nothing is used."""
    main = Question(model=str(drafters["mtp"]), devices=(), ctx_size=8192, batch_size=8192, ubatch_size=8192)
    with SimulatorPool(engine.folder) as simulators:
        question = asked(main, ("--spec-type", "draft-mtp"), simulators)
        assert isinstance(simulators.simulate(main), Answer)
        assert isinstance(simulators.simulate_draft(question), DraftAnswer)
