"""Simulations of models: figures and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import LoadMode, SplitMode, TensorOverride
from launcher.plan.oracle import Answer, HostTensor, Question, Refusal
from launcher.simulate.client import SimulatorPool
from launcher.units import GIB, MIB
from tests.make_gguf import Types, make_gguf
from tests.simulate.questions import CARDS, ask, damaged

KIMI_KV_MIB = 61 * 576 * 2 * 131072 // MIB
"""61 layers of 576 f16 numbers for each of 131072 tokens: multi-head latent attention keeps no V."""


@pytest.mark.engine
class TestAnswers:
    def test_kimi_on_eight_cards(self, simulators: SimulatorPool, kimi: Path) -> None:
        answer = ask(simulators, kimi, devices=CARDS, ctx_size=131072)

        devices = [row for row in answer.rows if row.where != HOST]
        assert [row.where for row in devices] == [card.id for card in CARDS]
        assert sum(row.kv_bytes for row in devices) == KIMI_KV_MIB * MIB
        assert sum(row.weights_bytes for row in answer.rows) == pytest.approx(kimi.stat().st_size, rel=0.01)
        assert answer.sched_copies == 4
        assert answer.graph_splits == (9, 9)
        assert answer.slot_ctx_size == 131072
        assert answer.flash_attn

    @pytest.mark.parametrize("backend", [Backend.VULKAN, Backend.METAL])
    def test_a_device_in_host_memory(
        self, backend: Backend, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        shared = Device(
            id="X0",
            backend=backend,
            name="",
            total_bytes=16 * GIB,
            free_bytes=8 * GIB,
            shares_host_memory=True,
        )

        answer = ask(simulators, models["llama"], devices=(shared,))

        assert {row.buffer_type for row in answer.rows if row.where == "X0"} == {"X0"}

    def test_overrides_end_pipeline_parallelism_and_move_weights(
        self, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        rules = (TensorOverride(pattern=r"\.ffn_(up|down|gate)_exps", where=HOST),)
        answer = ask(simulators, models["qwen3moe"], devices=CARDS[:2], overrides=rules)

        host = sum(row.weights_bytes for row in answer.rows if row.where == HOST)
        assert answer.sched_copies == 1
        assert host > sum(row.weights_bytes for row in answer.rows if row.where != HOST)
        assert answer.host_tensors == ()

    def test_overrides_can_name_a_device(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        rules = (TensorOverride(pattern=r"^blk\.", where="CUDA1"),)
        answer = ask(simulators, models["qwen3moe"], devices=CARDS[:2], overrides=rules)

        weights = {row.where: row.weights_bytes for row in answer.rows}
        assert weights["CUDA1"] > 100 * weights["CUDA0"]

    def test_a_type_without_a_kernel_is_named(self, simulators: SimulatorPool, tmp_path: Path) -> None:
        types = Types(dense=GgmlType.Q8_0, expert=GgmlType.TQ1_0)
        (path,) = make_gguf(tmp_path / "ternary.gguf", "deepseek2", types=types, hollow=True)

        answer = ask(simulators, path)

        reason = "CUDA0 has no kernel for TQ1_0"
        assert HostTensor(name="blk.1.ffn_up_exps.weight", reason=reason) in answer.host_tensors
        assert {tensor.reason for tensor in answer.host_tensors} == {reason}
        assert all("_exps" in tensor.name for tensor in answer.host_tensors)

    def test_weights_under_mmap_are_pages_of_the_file(
        self, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        rules = (TensorOverride(pattern="_exps", where=HOST),)
        plain = ask(simulators, models["qwen3moe"], overrides=rules)
        mapped = ask(simulators, models["qwen3moe"], overrides=rules, load_mode=LoadMode.MMAP)

        def host_weights(answer: Answer) -> dict[str, int]:
            return {row.buffer_type: row.weights_bytes for row in answer.rows if row.weights_bytes}

        assert host_weights(mapped)["CPU_Mapped"] == host_weights(plain)["CUDA_Host"]
        assert "CUDA_Host" not in host_weights(mapped)

    def test_slots_share_the_pool_or_divide_it(
        self, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        shared = ask(simulators, models["llama"], n_parallel=4)
        divided = ask(simulators, models["llama"], n_parallel=4, kv_unified=False)

        assert (shared.slot_ctx_size, divided.slot_ctx_size) == (4096, 1024)


@pytest.mark.engine
class TestRefusals:
    def test_an_unknown_architecture(self, engine: Engine, models: dict[str, Path], tmp_path: Path) -> None:
        path = damaged(models["qwen3moe"], tmp_path, b"qwen3moe", b"qwen9moe")

        with SimulatorPool(engine.folder, version="0c1e570") as simulators:
            answer = simulators.simulate(Question(model=str(path), devices=(), ctx_size=4096))

        reason = "llama.cpp 0c1e570: unknown model architecture: 'qwen9moe'"
        assert answer == Refusal(reason=reason, model_refused=True)

    def test_an_unknown_type(
        self, simulators: SimulatorPool, models: dict[str, Path], tmp_path: Path
    ) -> None:
        header = models["qwen3moe"].read_bytes()[: 1 << 20]
        at = header.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight") + 4 + 16
        path = damaged(
            models["qwen3moe"], tmp_path, header[at - 40 : at + 4], header[at - 40 : at] + b"c\0\0\0"
        )

        answer = simulators.simulate(Question(model=str(path), devices=(), ctx_size=4096))

        assert isinstance(answer, Refusal)
        assert "tensor 'blk.0.attn_q.weight' has invalid ggml type 99" in answer.reason

    def test_split_buffers_that_no_device_has(
        self, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        question = Question(
            model=str(models["llama"]), devices=CARDS[:2], ctx_size=4096, split_mode=SplitMode.ROW
        )

        answer = simulators.simulate(question)

        reason = f"device {CARDS[0].id} does not support split buffers (--split-mode row)"
        assert answer == Refusal(reason=reason, model_refused=True)

    def test_split_buffers_of_sycl(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        cards = tuple(replace(card, backend=Backend.SYCL, id=f"SYCL{i}") for i, card in enumerate(CARDS[:2]))
        question = Question(
            model=str(models["llama"]), devices=cards, ctx_size=4096, split_mode=SplitMode.ROW
        )

        answer = simulators.simulate(question)

        reason = "--split-mode row cannot be simulated: SYCL's split buffers span devices"
        assert answer == Refusal(reason=reason, model_refused=False, unavailable=True)

    def test_an_override_to_nowhere(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        rules = (TensorOverride(pattern="exps", where="CUDA9"),)
        question = Question(model=str(models["llama"]), devices=CARDS[:2], ctx_size=4096, overrides=rules)

        answer = simulators.simulate(question)

        reason = "a tensor override names CUDA9, which is not among the devices"
        assert answer == Refusal(reason=reason, model_refused=False)
