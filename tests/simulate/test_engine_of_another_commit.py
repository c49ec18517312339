"""An engine that was not built here, simulated by its own libraries and by the pinned ones.

Short form of `scripts/bench simulate --only other`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.plan.oracle import Answer
from launcher.simulate.client import SimulatorPool
from tests.simulate.cases import any_commit, configurations
from tests.simulate.engine_log import differences, load_with_engine, out_of_bounds, software_gpus

HYBRID = "falcon-h1-dense"


@pytest.fixture(scope="module")
def its_own(another_commit: Path) -> Iterator[SimulatorPool]:
    with SimulatorPool(another_commit.parent) as simulators:
        yield simulators


@pytest.mark.vulkan
@pytest.mark.parametrize("name", ["qwen3moe", "llama", HYBRID])
def test_its_own_libraries_say_what_it_takes(
    name: str,
    another_commit: Path,
    its_own: SimulatorPool,
    models: dict[str, Path],
    every_architecture: tuple[Path, ...],
    tmp_path: Path,
) -> None:
    written = {path.stem: path for path in every_architecture}
    path = any_commit(written[HYBRID], tmp_path) if name == HYBRID else models[name]
    wrong = {}
    for what, question in configurations({name: path}, software_gpus(3)):
        if not question.devices:
            continue
        answer = its_own.simulate(question)
        assert isinstance(answer, Answer), answer
        load = load_with_engine(another_commit, question, old_flags=True)
        assert answer.graph_splits == load.splits
        wrong[what] = out_of_bounds(load, answer)

    assert len(wrong) >= 7
    assert not {what: rows for what, rows in wrong.items() if rows}


@pytest.mark.vulkan
def test_the_pinned_libraries_know_its_weights_and_caches(
    another_commit: Path, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    """Compute may differ: 0c1e570 copies graph inputs on the host (3 x n_embd x ubatch x 4 B)."""
    for _, question in configurations({"llama": models["llama"]}, software_gpus(2)):
        if not question.devices:
            continue  # it is compiled for AMX: other layouts on the host, or an illegal instruction
        answer = simulators.simulate(question)
        assert isinstance(answer, Answer)
        gaps = differences(load_with_engine(another_commit, question, old_flags=True), answer)
        assert {kind for (_, kind), gap in gaps.items() if abs(gap) > 0.1} <= {"compute"}
