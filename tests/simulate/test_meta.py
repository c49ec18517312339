"""`--split-mode tensor`: what each device holds, compared with what the engine allocates.

Rows of single configurations are compared in test_against_engine_log.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.engine.find import Engine
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device
from launcher.plan.amounts import HOST
from launcher.plan.modes import FlashAttention, SplitMode, TensorOverride
from launcher.plan.oracle import Answer, BufferRow, Question, Refusal
from launcher.simulate.client import SimulatorPool
from launcher.simulate.meta import is_partial_sum
from launcher.units import GIB, MIB
from tests.make_gguf import Types, make_gguf
from tests.simulate.engine_log import load_with_engine, software_gpus, split_tensor_disagreements

N_SPLIT = 100
"""Of 128 models of test-llama-archs; others are refused (llm_arch_supports_sm_tensor, llama-arch.cpp)."""


def cards(count: int, backend: Backend = Backend.CUDA) -> tuple[Device, ...]:
    return tuple(
        Device(
            id=f"{backend.upper()}{i}", backend=backend, name="a card", total_bytes=80 * GIB, free_bytes=None
        )
        for i in range(count)
    )


def ask(
    simulators: SimulatorPool, model: Path, devices: tuple[Device, ...], **changes: object
) -> Answer | Refusal:
    fields = {"ctx_size": 4096, "split_mode": SplitMode.TENSOR, **changes}
    return simulators.simulate(Question(model=str(model), devices=devices, **fields))


def rows_of(answer: Answer | Refusal) -> tuple[BufferRow, ...]:
    assert isinstance(answer, Answer), answer
    return answer.rows


@pytest.mark.vulkan
def test_every_architecture_is_divided_or_refused_as_by_the_engine(
    vulkan_engine: Engine, simulators: SimulatorPool, every_architecture: tuple[Path, ...]
) -> None:
    found = split_tensor_disagreements(vulkan_engine.path, simulators, every_architecture, software_gpus(3))

    assert found == (N_SPLIT, {})


@pytest.mark.engine
@pytest.mark.parametrize("backend", [Backend.CUDA, Backend.METAL, Backend.SYCL])
def test_every_architecture_on_other_backends(
    backend: Backend, simulators: SimulatorPool, every_architecture: tuple[Path, ...]
) -> None:
    answers = [ask(simulators, model, cards(2, backend)) for model in every_architecture]

    assert sum(isinstance(answer, Answer) for answer in answers) == N_SPLIT
    refusals = [answer.reason for answer in answers if isinstance(answer, Refusal)]
    assert all("LLAMA_SPLIT_MODE_TENSOR not implemented for architecture" in reason for reason in refusals)


@pytest.mark.engine
class TestRefusals:
    """In llama.cpp's words, as llama-server says it."""

    def test_no_device(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        answer = ask(simulators, models["llama"], ())

        assert isinstance(answer, Refusal)
        assert answer.reason.endswith(": LLAMA_SPLIT_MODE_TENSOR needs >= 1 devices")

    def test_no_flash_attention(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        answer = ask(simulators, models["llama"], cards(2), flash_attn=FlashAttention.OFF)

        assert isinstance(answer, Refusal)
        assert answer.model_refused
        assert answer.reason.endswith(": SPLIT_MODE_TENSOR requires flash_attn to be enabled")

    def test_an_override_to_one_of_the_devices(
        self, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        rules = (TensorOverride(pattern=r"blk\.1\.ffn_.*_exps", where="CUDA1"),)

        answer = ask(simulators, models["qwen3moe"], cards(2), overrides=rules)

        assert isinstance(answer, Refusal)
        assert answer.model_refused
        assert "in a buffer (CUDA1) that cannot run the operation" in answer.reason

    def test_the_fitting_tool(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        question = Question(
            model=str(models["llama"]), devices=cards(2), ctx_size=4096, split_mode=SplitMode.TENSOR
        )

        answer = simulators.simulate_like_fit(question)

        reason = "llama_params_fit is not implemented for SPLIT_MODE_TENSOR"
        assert answer == Refusal(reason=reason, model_refused=False, unavailable=True)


@pytest.mark.vulkan
@pytest.mark.parametrize(("name", "n_devices"), [("llama", 3), ("qwen3moe", 2)])
def test_sums_are_what_the_engine_takes_for_its_first_tokens(
    name: str, n_devices: int, vulkan_engine: Engine, simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    """The first batch has two tokens (common_context_can_seq_rm); with `-ub 2` none is larger."""
    question = Question(
        model=str(models[name]),
        devices=software_gpus(n_devices),
        ctx_size=4096,
        ubatch_size=2,
        split_mode=SplitMode.TENSOR,
    )
    answer = simulators.simulate(question)

    load = load_with_engine(vulkan_engine.path, question, companion_flags=("--no-warmup",))

    sums = {row.where: row.compute_bytes for row in rows_of(answer) if is_partial_sum(row)}
    assert sums == {where: round(size * MIB) for where, size in load.pending.items()}


@pytest.mark.engine
class TestSums:
    """Buffers for partial sums: n_embd x experts used x ubatch x 4 bytes, in ceil(log2(devices)) steps."""

    @pytest.mark.parametrize(("n_devices", "steps"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3)])
    def test_their_number(
        self, n_devices: int, steps: int, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        rows = rows_of(ask(simulators, models["qwen3moe"], software_gpus(n_devices)))

        sums = {row.where: row.compute_bytes for row in rows if is_partial_sum(row)}
        expected = steps * 512 * 512 * 8 * 4
        assert sums == ({device.id: expected for device in software_gpus(n_devices)} if steps else {})

    def test_of_a_smaller_batch(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        rows = rows_of(ask(simulators, models["llama"], software_gpus(2), ubatch_size=256))

        assert [row.compute_bytes for row in rows if is_partial_sum(row)] == [256 * 256 * 4] * 2

    def test_what_cuda_takes_for_itself(self, simulators: SimulatorPool, models: dict[str, Path]) -> None:
        rows = rows_of(ask(simulators, models["llama"], cards(2)))

        sums = {(row.where, row.buffer_type): row.compute_bytes for row in rows if is_partial_sum(row)}
        each = 512 * 256 * 4 + 32 * MIB
        assert sums == {
            ("CUDA0", "CUDA0 sums"): each,
            ("CUDA1", "CUDA1 sums"): each,
            (HOST, "CUDA_Host sums"): 68 * MIB,
        }

    def test_devices_of_two_backends_have_nothing_of_their_own(
        self, simulators: SimulatorPool, models: dict[str, Path]
    ) -> None:
        rows = rows_of(ask(simulators, models["llama"], (*cards(1), *software_gpus(1))))

        assert [row.compute_bytes for row in rows if is_partial_sum(row)] == [512 * 256 * 4] * 2


@pytest.mark.engine
def test_a_big_model_on_eight_devices(simulators: SimulatorPool, tmp_path: Path) -> None:
    """Qwen3-235B has 4 heads of keys for 8 devices: half of them hold a layer's cache, in turn."""
    (path,) = make_gguf(tmp_path / "big.gguf", "qwen3moe", preset="qwen3-235b", hollow=True)

    rows = rows_of(ask(simulators, path, cards(8), ctx_size=131072))

    caches = [row.kv_bytes for row in rows if row.where != HOST and not is_partial_sum(row)]
    assert sum(caches) == 94 * 2 * 4 * 128 * 2 * 131072
    assert max(caches) < 1.1 * min(caches)


@pytest.mark.engine
def test_tensor_split_is_the_share_of_each(simulators: SimulatorPool, models: dict[str, Path]) -> None:
    rows = rows_of(ask(simulators, models["qwen3moe"], cards(2), tensor_split=(0.0, 1.0)))

    weights = {row.where: row.weights_bytes for row in rows if not is_partial_sum(row)}
    assert weights["CUDA0"] < 2 * MIB < 100 * MIB < weights["CUDA1"]


@pytest.mark.engine
def test_a_tied_embedding_is_on_the_devices_and_not_said_to_be_moved(
    simulators: SimulatorPool, models: dict[str, Path]
) -> None:
    layers, tensors = (
        ask(simulators, models["gemma3"], cards(2), split_mode=mode)
        for mode in (SplitMode.LAYER, SplitMode.TENSOR)
    )

    assert isinstance(layers, Answer)
    assert isinstance(tensors, Answer)
    assert layers.host_tensors == tensors.host_tensors == ()


@pytest.mark.engine
def test_a_type_that_no_device_can_multiply(simulators: SimulatorPool, tmp_path: Path) -> None:
    types = Types(dense=GgmlType.Q8_0, expert=GgmlType.TQ1_0)
    (path,) = make_gguf(tmp_path / "ternary.gguf", "qwen3moe", preset="qwen3-235b", types=types, hollow=True)

    answer = ask(simulators, path, cards(2))

    assert isinstance(answer, Answer)
    assert {tensor.reason for tensor in answer.host_tensors} == {"CUDA0 has no kernel for TQ1_0"}
