"""Which bytes of a model belong to which layer, as llama.cpp assigns tensors to buffers.

Follows src/llama-model.cpp load_tensors and src/llama-model-loader.cpp create_tensor: the input layer
(`token_embd`) stays on the host, blocks go with their layer, everything else is the output layer's. It knows
sizes from headers only: exact, but for what a backend adds to each tensor (CUDA pads quantised rows).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from launcher.gguf.architecture import Architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo
from launcher.gguf.tensor_names import block_of
from launcher.machine.machine import Backend
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.memory.kernels import NO_KERNEL
from launcher.plan.modes import TensorOverride
from launcher.plan.overrides import first_match

_EXPERTS = re.compile(EXPERTS)
INPUT = ("token_embd", "position_embd", "token_types", "per_layer_token_embd")
"""Names (up to the first dot) of LLM_TENSOR_LAYER_INPUT in src/llama-arch.cpp, LLM_TENSOR_INFOS."""
EVERYWHERE = ("rope_freqs", "rope_factors_long", "rope_factors_short")
"""Small tables every device with a block gets a copy of (TENSOR_DUPLICATED in src/models)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """`expert_bytes` are the routed experts, the part that can stay on the host by itself; `stuck_bytes`
    stay there whatever is asked, because no device can compute with their type. `largest_*` is the biggest
    single tensor of a part (op offload copies whole tensors), `*_values` count a part's parameters wherever
    they are, `expert_kinds` are the experts' bytes by kind (`up`, `down`)."""

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
class OverriddenWeights:
    """What the user's overrides send to one place, of whatever layer: it is in no other count. `blocks` are
    those it is of, `largest_bytes` its biggest tensor of one."""

    where: str
    n_tensors: int = 0
    dense_bytes: int = 0
    expert_bytes: int = 0
    largest_bytes: int = 0
    blocks: tuple[int, ...] = ()

    @property
    def n_bytes(self) -> int:
        return self.dense_bytes + self.expert_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """`layers` are the blocks in order, then the output layer. `tied_bytes` is the embedding that serves as
    output too: on a device it exists a second time, on the host only where the CPU repacks its type. MTP
    blocks are empty: their tensors are left out unless asked for (`load_mtp`), their layers still count.
    `overridden` is what `overrides` decide."""

    input_bytes: int
    everywhere_bytes: int
    tied_bytes: int
    tied_type: GgmlType | None
    layers: tuple[LayerWeights, ...]
    overrides: tuple[TensorOverride, ...] = ()
    overridden: tuple[OverriddenWeights, ...] = ()

    def overridden_on(self, where: str) -> OverriddenWeights:
        return next(
            (fixed for fixed in self.overridden if fixed.where == where), OverriddenWeights(where=where)
        )

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
    architecture: Architecture,
    tensors: Iterable[TensorInfo],
    backends: Iterable[Backend] = (),
    overrides: tuple[TensorOverride, ...] = (),
) -> Weights:
    """Sort every tensor of the model into its layer; `backends` are those that may get some, `overrides`
    the user's.

    Raises UsageError for an override whose pattern is none.
    """
    backends = frozenset(backends)
    sent_to = first_match(
        overrides if backends else ()
    )  # without a device everything is where they could send it
    fixed: dict[str, list[TensorInfo]] = {}
    stuck = frozenset[GgmlType]().union(*(NO_KERNEL.get(backend, frozenset()) for backend in backends))
    n_block = architecture.n_block
    parts: list[list[TensorInfo]] = [[] for _ in range(n_block + 1)]
    input_bytes = everywhere = 0
    embedding: TensorInfo | None = None
    for tensor in tensors:
        stem = tensor.name.split(".", 1)[0]
        block = layer_of(tensor.name, n_block)
        if block is not None and block >= architecture.n_main:
            continue
        if (where := sent_to(tensor.name)) is not None:
            fixed.setdefault(where, []).append(tensor)
        if block is not None:
            parts[block].append(tensor)
        elif stem not in (*INPUT, *EVERYWHERE):
            parts[n_block].append(tensor)
        elif where is None and stem in EVERYWHERE:
            everywhere += tensor.size_bytes
        elif where is None:
            input_bytes += tensor.size_bytes
            embedding = tensor if tensor.name == "token_embd.weight" else embedding
    tied = None if architecture.has_output_tensor else embedding
    return Weights(
        input_bytes=input_bytes,
        everywhere_bytes=everywhere,
        tied_bytes=tied.size_bytes if tied else 0,
        tied_type=tied.type if tied else None,
        layers=tuple(_layer(part, stuck, sent_to) for part in parts),
        overrides=overrides,
        overridden=tuple(_fixed(where, sent, n_block) for where, sent in fixed.items()),
    )


def layer_of(name: str, n_block: int) -> int | None:
    """Return the block that a tensor belongs to, at most the last; None for a tensor outside the blocks."""
    block = block_of(name)
    # an encoder may have more blocks than are counted
    return None if block is None else min(block, n_block - 1)


def _fixed(where: str, tensors: Sequence[TensorInfo], n_block: int) -> OverriddenWeights:
    expert = sum(tensor.size_bytes for tensor in tensors if _EXPERTS.search(tensor.name))
    of_blocks = [
        (block, tensor.size_bytes)
        for tensor in tensors
        if (block := layer_of(tensor.name, n_block)) is not None
    ]
    return OverriddenWeights(
        where=where,
        n_tensors=len(tensors),
        dense_bytes=sum(tensor.size_bytes for tensor in tensors) - expert,
        expert_bytes=expert,
        largest_bytes=max((size for _, size in of_blocks), default=0),
        blocks=tuple(sorted({block for block, _ in of_blocks})),
    )


def _layer(
    tensors: list[TensorInfo], stuck: frozenset[GgmlType], sent_to: Callable[[str], str | None]
) -> LayerWeights:
    open_ones = [tensor for tensor in tensors if sent_to(tensor.name) is None]
    movable = [tensor for tensor in open_ones if tensor.type not in stuck]
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
        stuck_bytes=sum(tensor.size_bytes for tensor in open_ones if tensor.type in stuck),
        largest_dense_bytes=max(dense, default=0),
        largest_expert_bytes=max(expert, default=0),
    )
