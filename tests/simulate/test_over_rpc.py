"""A head's own log with ggml-rpc-servers as its devices, against the simulator.

Short form of `scripts/bench simulate --only rpc`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.machine.machine import Backend, Device
from launcher.plan.modes import SplitMode, TensorOverride
from launcher.plan.oracle import Answer, Question, Refusal
from launcher.simulate.client import SimulatorPool
from tests.simulate.engine_log import differences, load_with_engine, software_gpus
from tests.simulate.fit_params import fit_print, question_like_fit, simulate_fit
from tests.simulate.rpc_peers import KIMI_ON_PEERS, on_peers, remote, rpc_peers

_LOGGED_MIB = 0.01
"""The log has two digits after the point."""


def gaps(server: Path, simulators: SimulatorPool, question: Question) -> dict[tuple[str, str], float]:
    answer = simulators.simulate(question)
    assert isinstance(answer, Answer), answer
    load = load_with_engine(server, question)
    assert answer.graph_splits == load.splits
    return {key: gap for key, gap in differences(load, answer).items() if abs(gap) > _LOGGED_MIB}


@pytest.mark.engine
def test_rows_of_processors_on_peers_are_the_heads(
    engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    with rpc_peers(engine.folder, [Backend.CPU] * 3) as peers:
        found = {
            what: gaps(engine.path, simulators, question)
            for name in ("llama", "gemma3")
            for what, question in on_peers(name, models[name], peers)
        }

    assert len(found) == 20
    assert not {what: gap for what, gap in found.items() if gap}


@pytest.mark.vulkan
def test_rows_of_gpus_on_peers_beside_the_heads_own(
    vulkan_engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    with rpc_peers(vulkan_engine.folder, [Backend.VULKAN, Backend.CPU]) as peers:
        devices = (*peers, *software_gpus(1))
        found = {
            what: gaps(vulkan_engine.path, simulators, question)
            for what, question in on_peers("llama", models["llama"], devices)
        }

    assert len(found) == 10
    assert not {what: gap for what, gap in found.items() if gap}


@pytest.mark.engine
def test_experts_are_sent_to_another_peer_by_the_name_of_its_memory(
    engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    rule = TensorOverride(pattern=r"blk\.[2-5]\.ffn_.*_exps", where="RPC1")
    with rpc_peers(engine.folder, [Backend.CPU] * 2) as peers:
        question = Question(
            model=str(models["qwen3moe"]),
            devices=peers,
            ctx_size=1024,
            tensor_split=(1.0, 0.0),
            overrides=(rule,),
        )
        found = gaps(engine.path, simulators, question)
        answer = simulators.simulate(question)

    assert not found
    assert isinstance(answer, Answer)
    (second,) = (row for row in answer.rows if row.where == "RPC1")
    assert second.buffer_type == peers[1].buffer_name
    assert second.weights_bytes
    assert not second.kv_bytes


@pytest.mark.engine
@pytest.mark.parametrize(("n_peers", "ctx_size", "changes"), KIMI_ON_PEERS[::2])
def test_kimi_on_peers_is_what_llama_fit_params_says(
    n_peers: int,
    ctx_size: int,
    changes: dict[str, object],
    engine: Engine,
    simulators: SimulatorPool,
    kimi: Path,
) -> None:
    with rpc_peers(engine.folder, [Backend.CPU] * n_peers) as peers:
        question = question_like_fit(kimi, ctx_size, peers, **changes)
        real = fit_print(engine.folder / "llama-fit-params", question)

    assert len(real) == n_peers + 1
    assert simulate_fit(simulators, question) == real


@pytest.mark.engine
def test_divided_tensors_over_rpc_are_not_simulated(
    simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    peer: Device = remote(0, Backend.CPU, "127.0.0.1:50052")
    question = Question(
        model=str(models["llama"]), devices=(peer,), ctx_size=1024, split_mode=SplitMode.TENSOR
    )

    answer = simulators.simulate(question)

    assert isinstance(answer, Refusal)
    assert answer.unavailable
    assert "RPC0" in answer.reason
