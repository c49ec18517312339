"""Which bytes of a model belong to which layer, as llama.cpp assigns tensors to buffers.

Follows src/llama-model.cpp load_tensors and src/llama-model-loader.cpp create_tensor: the input layer
(`token_embd`) stays on the host, blocks go with their layer, everything else is the output layer's. It knows
sizes from headers only: exact, but for what a backend adds to each tensor (CUDA pads quantised rows).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.gguf.architecture import Architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo
from launcher.machine import Backend
from launcher.plan.kernels import NO_KERNEL
from launcher.plan.pattern import EXPERTS

BLOCK = re.compile(r"(?:enc\.|dec\.)?blk\.(\d+)\.")
_EXPERTS = re.compile(EXPERTS)
INPUT = ("token_embd", "position_embd", "token_types", "per_layer_token_embd")
"""Names (up to the first dot) of LLM_TENSOR_LAYER_INPUT in src/llama-arch.cpp, LLM_TENSOR_INFOS."""
EVERYWHERE = ("rope_freqs", "rope_factors_long", "rope_factors_short")
"""Small tables every device with a block gets a copy of (TENSOR_DUPLICATED in src/models)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """`expert_bytes` are the routed experts, the part that can stay on the host by itself; `stuck_bytes` stay
    there whatever is asked, because no device can compute with their type. `largest_*` is the biggest single
    tensor of a part (op offload copies whole tensors), `*_values` count a part's parameters, `expert_kinds` are the experts' bytes by kind (`up`, `down`)."""

    dense_bytes: int = 0
    expert_bytes: int = 0
    stuck_bytes: int = 0
    largest_dense_bytes: int = 0
    largest_expert_bytes: int = 0
    dense_values: int = 0
    expert_values: int = 0
    expert_kinds: tuple[tuple[str, int], ...] = ()

    @property
    def n_bytes(self) -> int:
        """What goes to a device with the whole layer."""
        return self.dense_bytes + self.expert_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """`layers` are the blocks in order, then the output layer. `tied_bytes` is the embedding that serves as
    output too: on a device it exists a second time, on the host only where the CPU repacks its type. MTP blocks are empty: their
    tensors are left out unless asked for (`load_mtp`), their layers still count."""

    input_bytes: int
    everywhere_bytes: int
    tied_bytes: int
    tied_type: GgmlType | None
    layers: tuple[LayerWeights, ...]

    @property
    def n_block(self) -> int:
        return len(self.layers) - 1

    @property
    def stuck_bytes(self) -> int:
        return sum(layer.stuck_bytes for layer in self.layers)

    @property
    def expert_blocks(self) -> tuple[int, ...]:
        """Blocks with routed experts."""
        return tuple(index for index, layer in enumerate(self.layers) if layer.expert_bytes)


def weigh(
    architecture: Architecture, tensors: Iterable[TensorInfo], backends: Iterable[Backend] = ()
) -> Weights:
    """Sort every tensor of the model into its layer; `backends` are those that may get some."""
    stuck = frozenset[GgmlType]().union(*(NO_KERNEL.get(backend, frozenset()) for backend in backends))
    n_block = architecture.n_block
    parts: list[list[TensorInfo]] = [[] for _ in range(n_block + 1)]
    input_bytes = everywhere = 0
    embedding: TensorInfo | None = None
    for tensor in tensors:
        stem = tensor.name.split(".", 1)[0]
        if (match := BLOCK.match(tensor.name)) is not None:
            block = min(int(match[1]), n_block - 1)  # an encoder may have more blocks than are counted
            if block < architecture.n_main:
                parts[block].append(tensor)
        elif stem in INPUT:
            input_bytes += tensor.size_bytes
            embedding = tensor if tensor.name == "token_embd.weight" else embedding
        elif stem in EVERYWHERE:
            everywhere += tensor.size_bytes
        else:
            parts[n_block].append(tensor)
    tied = None if architecture.has_output_tensor else embedding
    return Weights(
        input_bytes=input_bytes,
        everywhere_bytes=everywhere,
        tied_bytes=tied.size_bytes if tied else 0,
        tied_type=tied.type if tied else None,
        layers=tuple(_layer(part, stuck) for part in parts),
    )


def _layer(tensors: list[TensorInfo], stuck: frozenset[GgmlType]) -> LayerWeights:
    movable = [tensor for tensor in tensors if tensor.type not in stuck]
    expert = [tensor.size_bytes for tensor in movable if _EXPERTS.search(tensor.name)]
    dense = [tensor.size_bytes for tensor in movable if not _EXPERTS.search(tensor.name)]
    kinds: dict[str, int] = {}
    for tensor in movable:
        if (match := _EXPERTS.search(tensor.name)) is not None:
            kinds[match[1]] = kinds.get(match[1], 0) + tensor.size_bytes
    values = {True: 0, False: 0}
    for tensor in tensors:
        values[_EXPERTS.search(tensor.name) is not None] += math.prod(tensor.shape)
    return LayerWeights(
        dense_values=values[False],
        expert_values=values[True],
        expert_kinds=tuple(sorted(kinds.items())),
        dense_bytes=sum(dense),
        expert_bytes=sum(expert),
        stuck_bytes=sum(tensor.size_bytes for tensor in tensors if tensor.type in stuck),
        largest_dense_bytes=max(dense, default=0),
        largest_expert_bytes=max(expert, default=0),
    )
