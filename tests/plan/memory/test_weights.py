"""Every byte of a model belongs to one layer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo
from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST
from launcher.plan.memory.weights import weigh
from launcher.plan.modes import TensorOverride
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


def tensor(name: str, *shape: int) -> TensorInfo:
    return replace(
        model("llama").tensors[0], name=name, shape=shape, type=GgmlType.F32, size_bytes=4 * math.prod(shape)
    )


# One block of the mini model's two last ones by hand: 8 and 12 parameters outside experts, 20 and 30 in them.
BY_HAND = (
    tensor("token_embd.weight", 5, 1),
    tensor("blk.2.attn_q.weight", 4, 2),
    tensor("blk.2.attn_k.weight", 4, 3),
    tensor("blk.2.ffn_up_exps.weight", 5, 2, 2),
    tensor("blk.2.ffn_down_exps.weight", 5, 3, 2),
    tensor("blk.9.attn_q.weight", 7, 1),
)


def test_a_layer_by_hand() -> None:
    weights = weigh(architecture_of(model("llama")), BY_HAND)
    layer = weights.layers[2]
    assert (layer.dense_values, layer.expert_values) == (8 + 12, 20 + 30)
    assert (layer.dense_bytes, layer.expert_bytes) == (4 * 20, 4 * 50)
    assert (layer.largest_dense_bytes, layer.largest_expert_bytes) == (4 * 12, 4 * 30)
    assert layer.expert_kinds == (("down", 120), ("up", 80))
    assert weights.layers[3].dense_bytes == 28  # a block beyond those that are counted is the last one's
    assert (weights.input_bytes, weights.n_block) == (20, 4)


def test_overridden_tensors_by_hand() -> None:
    rules = (
        TensorOverride(pattern=r"blk\.2\.(attn_q|ffn_up)", where="CUDA0"),
        TensorOverride(pattern="attn_q|token_embd", where=HOST),
    )
    weights = weigh(architecture_of(model("llama")), BY_HAND, {Backend.CUDA}, rules)
    on_card, on_host = weights.overridden_on("CUDA0"), weights.overridden_on(HOST)
    assert (on_card.n_tensors, on_card.dense_bytes, on_card.expert_bytes) == (2, 32, 80)
    assert (on_card.largest_bytes, on_card.blocks, on_card.n_bytes) == (80, (2,), 112)
    assert (on_host.n_tensors, on_host.dense_bytes, on_host.expert_bytes) == (2, 28 + 20, 0)
    assert (on_host.largest_bytes, on_host.blocks) == (28, (3,))  # the embedding is of no block
    assert (weights.input_bytes, weights.layers[2].dense_bytes, weights.layers[2].expert_bytes) == (
        0,
        48,
        120,
    )
    assert weights.layers[2].dense_values == 20  # the arithmetic stays
    assert weights.overridden_devices == {"CUDA0"}
    assert weigh(architecture_of(model("llama")), BY_HAND, (), rules).overridden == ()


@pytest.mark.parametrize(("block", "expert"), [(3, 80), (4, 0), (9, 0)])
def test_experts_of_a_block_that_is_not_counted_cannot_be_moved(block: int, expert: int) -> None:
    odd = (tensor(f"blk.{block}.ffn_up_exps.weight", 5, 2, 2),)
    weights = weigh(architecture_of(model("llama")), odd)
    assert (weights.layers[3].expert_bytes, weights.layers[3].dense_bytes) == (expert, 80 - expert)
    rule = TensorOverride(pattern="exps", where="CUDA0")
    sent = weigh(architecture_of(model("llama")), odd, {Backend.CUDA}, (rule,)).overridden_on("CUDA0")
    assert (sent.expert_bytes, sent.dense_bytes) == (expert, 80 - expert)
