"""Every byte of a model belongs to one layer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend
from launcher.plan.memory.weights import weigh
from tests.plan.shapes import architecture_of, model


@pytest.mark.parametrize("name", ["qwen3moe", "deepseek2", "llama", "gemma3"])
def test_nothing_is_lost(name: str) -> None:
    file = model(name)
    weights = weigh(architecture_of(file), file.tensors)
    total = weights.input_bytes + weights.everywhere_bytes + sum(layer.n_bytes for layer in weights.layers)
    assert total == sum(tensor.size_bytes for tensor in file.tensors)
    assert weights.n_block == architecture_of(file).n_block


def test_shards_are_one_model() -> None:
    whole, split = model("deepseek2"), model("deepseek2", splits=3)
    assert len(split.shards) == 3
    assert weigh(architecture_of(whole), whole.tensors) == weigh(architecture_of(split), split.tensors)


def test_kimi_by_kind() -> None:
    """60 expert blocks of 384 x 3 matrices of 7168 x 2048 in Q4_0."""
    file = model("deepseek2", "kimi-k2.5")
    weights = weigh(architecture_of(file), file.tensors)
    assert weights.expert_blocks == tuple(range(1, 61))
    assert weights.layers[1].expert_bytes == 384 * 3 * 7168 * 2048 * 18 // 32
    assert weights.layers[1].largest_expert_bytes * 3 == weights.layers[1].expert_bytes


def test_a_tied_embedding_is_told() -> None:
    file = model("gemma3")
    weights = weigh(architecture_of(file), file.tensors)
    assert weights.tied_bytes == next(
        tensor.size_bytes for tensor in file.tensors if tensor.name == "token_embd.weight"
    )
    assert weigh(architecture_of(model("llama")), model("llama").tensors).tied_bytes == 0


@pytest.mark.parametrize(
    ("backend", "stuck"), [(Backend.CUDA, True), (Backend.VULKAN, False), (Backend.METAL, True)]
)
def test_types_without_a_kernel_stay_on_the_host(backend: Backend, stuck: bool) -> None:
    file = model("qwen3moe")
    tensors = [
        replace(tensor, type=GgmlType.TQ1_0) if "exps" in tensor.name else tensor for tensor in file.tensors
    ]
    weights = weigh(architecture_of(file), tensors, {backend})
    assert (weights.stuck_bytes > 0) is stuck
    assert (weights.expert_blocks == ()) is stuck


def test_mtp_blocks_count_as_layers_and_weigh_nothing() -> None:
    file = model("llama")
    architecture = replace(architecture_of(file), n_nextn=1)
    weights = weigh(architecture, file.tensors)
    assert len(weights.layers) == architecture.n_block + 1
    assert weights.layers[architecture.n_block - 1].n_bytes == 0
