"""llama.cpp's assignment by count, tensor by tensor."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Device, Peer
from launcher.plan.amounts import HOST
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.memory.assign import assign, assign_layers, lacking_on_peers
from launcher.plan.modes import TensorOverride
from launcher.plan.oracle import Question
from tests.plan.shapes import architecture_of, cards, model


def question(
    devices: tuple[Device, ...],
    *,
    split: tuple[float, ...] = (),
    layers: int | None = None,
    overrides: tuple[TensorOverride, ...] = (),
) -> Question:
    return Question(
        model="m",
        devices=devices,
        ctx_size=4096,
        tensor_split=split,
        n_gpu_layers=layers,
        overrides=overrides,
    )


@pytest.mark.parametrize(
    ("split", "layers", "expected"),
    [
        ((1.0, 1.0), None, {"CUDA0": 7, "CUDA1": 6}),
        ((3.0, 10.0), None, {"CUDA0": 3, "CUDA1": 10}),
        ((1.0,), None, {"CUDA0": 13}),
        ((0.0, 1.0), None, {"CUDA1": 13}),
        ((1.0, 1.0), 4, {HOST: 9, "CUDA0": 2, "CUDA1": 2}),
        ((1.0, 1.0), 0, {HOST: 13}),
        ((1.0, 1.0), 99, {"CUDA0": 7, "CUDA1": 6}),
        ((), None, {"CUDA0": 7, "CUDA1": 6}),
    ],
)
def test_layers_by_count(split: tuple[float, ...], layers: int | None, expected: dict[str, int]) -> None:
    assert Counter(assign_layers(question(cards(500, 500), split=split, layers=layers), 12)) == expected


def test_free_memory_decides_where_nobody_does() -> None:
    assert Counter(assign_layers(question(cards(0, 3072)), 9)) == {"CUDA0": 2, "CUDA1": 8}
    first, second = cards(1024, 1024)
    busy = replace(first, free_bytes=first.total_bytes // 4)
    assert Counter(assign_layers(question((busy, second)), 9)) == {"CUDA0": 2, "CUDA1": 8}
    idle = replace(first, free_bytes=None)
    assert Counter(assign_layers(question((idle, second)), 9)) == {"CUDA0": 5, "CUDA1": 5}


def test_devices_without_free_memory_share_evenly() -> None:
    full = cards(-1024, -1024)
    assert [each.free_bytes for each in full] == [0, 0]
    assert Counter(assign_layers(question(full), 9)) == {"CUDA0": 5, "CUDA1": 5}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_counts_that_sum_to_the_layers_are_hit_exactly(counts: list[int]) -> None:
    """What the planner relies on (plan/DESIGN.md)."""
    devices = cards(*(100 for _ in counts))
    places = assign_layers(question(devices, split=tuple(float(count) for count in counts)), sum(counts) - 1)
    assert [Counter(places)[device.id] for device in devices] == counts


@pytest.mark.parametrize("name", ["qwen3moe", "deepseek2", "gemma3", "llama"])
def test_every_byte_has_a_place(name: str) -> None:
    """A tied embedding has two."""
    file = model(name)
    architecture = architecture_of(file)
    assignment = assign(question(cards(500, 500)), architecture, file.tensors)
    embedding = next(tensor for tensor in file.tensors if tensor.name == "token_embd.weight")
    tied = 0 if architecture.has_output_tensor else embedding.size_bytes
    assert sum(share.weights_bytes for share in assignment.shares) == tied + sum(
        tensor.size_bytes for tensor in file.tensors
    )
    assert assignment.share(HOST).weights_bytes == embedding.size_bytes


def test_experts_that_were_moved() -> None:
    file = model("qwen3moe")
    rules = (
        TensorOverride(pattern=r"blk\.[01]" + EXPERTS, where=HOST),
        TensorOverride(pattern=r"blk\.[0-3]" + EXPERTS, where="CUDA1"),
    )
    assignment = assign(question(cards(500, 500), overrides=rules), architecture_of(file), file.tensors)
    assert assignment.moved_blocks == (0, 1)
    assert assignment.share(HOST).expert_blocks == (0, 1)
    assert assignment.share("CUDA0").expert_blocks == (4, 5, 6)
    assert assignment.share("CUDA1").expert_blocks == (2, 3, *range(7, 12))
    assert assignment.share("CUDA0").layers == tuple(range(7))
    sizes = {"up": 0, "gate": 0, "down": 0}
    for tensor in file.tensors:
        if tensor.name.startswith(("blk.4.", "blk.5.", "blk.6.")) and "_exps" in tensor.name:
            sizes[tensor.name.split("_")[1]] += tensor.size_bytes
    assert all(sizes.values())
    assert assignment.share("CUDA0").expert_bytes == sum(sizes.values())


def test_types_without_a_kernel_stay_on_the_host() -> None:
    file = model("deepseek2", expert=GgmlType.TQ1_0)
    assignment = assign(question(cards(500)), architecture_of(file), file.tensors)
    assert assignment.share("CUDA0").expert_blocks == ()
    assert len(assignment.share(HOST).expert_blocks) == 7
    assert assignment.moved_blocks == ()


def test_a_peer_that_is_sent_what_it_has_no_kernel_for_is_named() -> None:
    made = model("qwen3moe")
    ternary = [
        replace(tensor, type=GgmlType.TQ1_0) if "blk.1.ffn_up_exps" in tensor.name else tensor
        for tensor in made.tensors
    ]
    own, remote = cards(500, 500)
    remote = replace(remote, id="RPC0", peer=Peer(endpoint="a:1"))
    architecture = architecture_of(made)

    def found(devices: tuple[Device, ...], split: tuple[float, ...] = ()) -> str | None:
        asked = question(devices, split=split)
        return lacking_on_peers(asked, assign(asked, architecture, ternary))

    assert found((own,)) is None
    assert "RPC0 (" in (found((remote,)) or "")
    assert "no kernel for TQ1_0" in (found((remote, own), (12.0, 1.0)) or "")
    assert found((own, remote), (12.0, 1.0)) is None  # the block is on the head's own
