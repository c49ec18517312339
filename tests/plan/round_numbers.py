"""A model of 4 blocks whose weights and caches are round numbers, and placements of it."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan.memory.kv import BlockCache
from launcher.plan.memory.ledger import Demand, demand_of
from launcher.plan.memory.weights import LayerWeights, Weights
from launcher.plan.modes import TensorOverride
from launcher.plan.plan import Placement
from launcher.plan.workload import Adapter
from launcher.units import MIB
from tests.plan.shapes import architecture_of, model, parameters

# 4 blocks of 10 MiB and 30 MiB of experts, an output of 7, an embedding of 3; 1 MiB goes everywhere.
BLOCK = LayerWeights(
    dense_bytes=10 * MIB,
    expert_bytes=30 * MIB,
    largest_dense_bytes=4 * MIB,
    largest_expert_bytes=12 * MIB,
    expert_kinds=(("down", 12 * MIB), ("gate", 9 * MIB), ("up", 9 * MIB)),
)
WEIGHTS = Weights(
    input_bytes=3 * MIB,
    everywhere_bytes=MIB,
    tied_bytes=0,
    tied_type=None,
    layers=(BLOCK, BLOCK, BLOCK, BLOCK, LayerWeights(dense_bytes=7 * MIB)),
)


def demand(weights: Weights = WEIGHTS, adapters: tuple[Adapter, ...] = ()) -> Demand:
    """Caches of 2 MiB for block 0, 3 for block 1, and so on."""
    # Heads of 64, for which CUDA has flash attention.
    architecture = replace(architecture_of(model("llama")), n_embd_head_k=64, n_embd_head_v=64)
    plain = demand_of(architecture, weights, parameters(), adapters)
    blocks = tuple(BlockCache(attention_bytes=(2 + i) * MIB, recurrent_bytes=0) for i in range(4))
    return replace(plain, caches=replace(plain.caches, blocks=blocks))


def placed(
    *split: int,
    experts: tuple[int, ...] = (),
    parts: tuple[tuple[int, tuple[str, ...]], ...] = (),
    overrides: tuple[TensorOverride, ...] = (),
    prefix: str = "CUDA",
) -> Placement:
    return Placement(
        n_block=4,
        n_gpu_layers=sum(split),
        devices=tuple(f"{prefix}{index}" for index in range(len(split))),
        tensor_split=split,
        host_expert_blocks=experts,
        host_expert_parts=parts,
        overrides=overrides,
    )
