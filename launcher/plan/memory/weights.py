"""Weigh a model's layers, with tensors assigned to buffers as llama.cpp does. Pure.

Sizes are those of the headers: exact, but for the padding that a backend adds (CUDA pads quantised rows).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from launcher.gguf.architecture import Architecture
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import TensorInfo
from launcher.gguf.tensor_names import block_of
from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.memory import amx
from launcher.plan.memory.kernels import NO_KERNEL
from launcher.plan.modes import TensorOverride
from launcher.plan.overrides import first_match

_EXPERTS = re.compile(EXPERTS)
# Names (up to the first dot) of LLM_TENSOR_LAYER_INPUT in src/llama-arch.cpp, LLM_TENSOR_INFOS.
INPUT = ("token_embd", "position_embd", "token_types", "per_layer_token_embd")
# Architectures that create a tied output before the embedding (src/models), so that there is no original yet
# to share: it exists twice on the host, too.
TIED_TWICE = frozenset({"gemma3n", "gemma4"})
# Small tables that every device with a block gets a copy of (TENSOR_DUPLICATED in src/models).
EVERYWHERE = ("rope_freqs", "rope_factors_long", "rope_factors_short")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    dense_bytes: int = 0
    expert_bytes: int = 0  # routed experts, which can stay on the host by themselves
    stuck_bytes: int = 0  # on the host in any case, because no device can compute with their type
    # The biggest single tensor of each part: op offload copies whole tensors.
    largest_dense_bytes: int = 0
    largest_expert_bytes: int = 0
    # Parameters of each part, wherever they are.
    dense_values: int = 0
    expert_values: int = 0
    expert_kinds: tuple[tuple[str, int], ...] = ()  # bytes of experts by kind (`up`, `down`)

    @property
    def n_bytes(self) -> int:
        """Bytes that go to a device with the whole layer."""
        return self.dense_bytes + self.expert_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OverriddenWeights:
    """The weights that the user's overrides send to one place; no other count has them."""

    where: str
    n_tensors: int = 0
    dense_bytes: int = 0
    expert_bytes: int = 0
    largest_bytes: int = 0  # the biggest tensor of a block
    blocks: tuple[int, ...] = ()  # blocks that some of the tensors are of

    @property
    def n_bytes(self) -> int:
        return self.dense_bytes + self.expert_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The weights of a model by layer.

    Without `load_mtp` MTP blocks are empty: their tensors are left out, their layers still count.
    """

    input_bytes: int  # without what is read from the file
    everywhere_bytes: int  # copied to every device with a block
    # The embedding that serves as output, too. On a device it exists a second time, on the host only where
    # the CPU repacks its type.
    tied_bytes: int
    tied_type: GgmlType | None
    layers: tuple[LayerWeights, ...]  # the blocks in order, then the output layer
    overrides: tuple[TensorOverride, ...] = ()
    overridden: tuple[OverriddenWeights, ...] = ()  # the tensors that `overrides` move
    in_file: frozenset[str] = frozenset()  # names of tables that are read by rows from the file
    file_bytes: int = 0  # of those tables
    amx_bytes: int = 0  # what all of it takes more in AMX's layouts

    @property
    def overridden_devices(self) -> frozenset[str]:
        """Devices that overrides send tensors to; they must be in use to hold any."""
        return frozenset(sent.where for sent in self.overridden) - {HOST}

    def overridden_on(self, where: str) -> OverriddenWeights:
        return next((sent for sent in self.overridden if sent.where == where), OverriddenWeights(where=where))

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


@dataclass(slots=True)
class _SortedTensors:
    layers: list[list[TensorInfo]]
    input: list[TensorInfo] = field(default_factory=list)
    in_file: list[TensorInfo] = field(default_factory=list)
    everywhere: list[TensorInfo] = field(default_factory=list)
    overridden: dict[str, list[TensorInfo]] = field(default_factory=dict)


def weigh(
    architecture: Architecture,
    tensors: Iterable[TensorInfo],
    backends: Iterable[Backend] = (),  # of devices that may get some
    overrides: tuple[TensorOverride, ...] = (),
    in_file: frozenset[str] = frozenset(),  # names of tables that are read by rows from the file
    *,
    load_mtp: bool = False,
) -> Weights:
    """Weigh every layer. Raises UsageError for an override whose pattern is no regular expression."""
    backends = frozenset(backends)
    # Without a device, everything is where overrides could send it.
    sent_to = first_match(overrides if backends else ())
    stuck = frozenset[GgmlType]().union(*(NO_KERNEL.get(backend, frozenset()) for backend in backends))
    n_loaded = architecture.n_block if load_mtp else architecture.n_main
    found = _sort_tensors(architecture.n_block, n_loaded, tensors, sent_to, in_file)
    tied = None
    if not architecture.has_output_tensor:
        tied = next((tensor for tensor in found.input if tensor.name == "token_embd.weight"), None)
    matrices = [tensor for layer in found.layers for tensor in layer]
    return Weights(
        amx_bytes=amx.more_bytes([*matrices, tied] if tied else matrices),
        input_bytes=sum(tensor.size_bytes for tensor in found.input),
        in_file=frozenset(tensor.name for tensor in found.in_file),
        file_bytes=sum(tensor.size_bytes for tensor in found.in_file),
        everywhere_bytes=sum(tensor.size_bytes for tensor in found.everywhere),
        tied_bytes=tied.size_bytes if tied else 0,
        tied_type=tied.type if tied else None,
        layers=tuple(_weigh_layer(layer, architecture.n_block, stuck, sent_to) for layer in found.layers),
        overrides=overrides,
        overridden=tuple(
            _weigh_overridden(where, sent, architecture.n_block) for where, sent in found.overridden.items()
        ),
    )


def _sort_tensors(
    n_block: int,
    n_loaded: int,
    tensors: Iterable[TensorInfo],
    sent_to: Callable[[str], str | None],
    in_file: frozenset[str],
) -> _SortedTensors:
    # src/llama-model.cpp load_tensors and src/llama-model-loader.cpp create_tensor: the input layer
    # (`token_embd`) stays on the host, blocks go with their layer, everything else is the output layer's.
    parts = _SortedTensors(layers=[[] for _ in range(n_block + 1)])
    for tensor in tensors:
        stem = tensor.name.split(".", 1)[0]
        block = layer_of(tensor.name, n_block)
        if block is not None and block >= n_loaded:
            continue  # MTP
        if tensor.name in in_file:
            parts.in_file.append(tensor)
            continue
        if (where := sent_to(tensor.name)) is not None:
            parts.overridden.setdefault(where, []).append(tensor)
        # A layer also has its overridden tensors: their parameters count for the arithmetic.
        if block is not None:
            parts.layers[block].append(tensor)
        elif stem not in (*INPUT, *EVERYWHERE):
            parts.layers[n_block].append(tensor)
        elif where is None:
            (parts.everywhere if stem in EVERYWHERE else parts.input).append(tensor)
    return parts


def layer_of(name: str, n_block: int) -> int | None:
    """Return the block that a tensor belongs to, at most the last; None for a tensor outside the blocks."""
    block = block_of(name)
    # An encoder may have more blocks than are counted.
    return None if block is None else min(block, n_block - 1)


def _expert_kind(name: str, n_block: int) -> str | None:
    """Return the kind (`up`, `down`) of a block's routed experts; None for other tensors."""
    match = _EXPERTS.search(name)
    if match is None:
        return None
    # What only resembles experts cannot be moved with those of a block.
    block = block_of(name)
    return match[1] if block is not None and block < n_block else None


def _weigh_overridden(where: str, tensors: Sequence[TensorInfo], n_block: int) -> OverriddenWeights:
    expert = sum(tensor.size_bytes for tensor in tensors if _expert_kind(tensor.name, n_block))
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


def _weigh_layer(
    tensors: list[TensorInfo],
    n_block: int,
    stuck: frozenset[GgmlType],
    sent_to: Callable[[str], str | None],
) -> LayerWeights:
    expert: list[int] = []
    dense: list[int] = []
    kinds: dict[str, int] = {}
    values = {True: 0, False: 0}
    stuck_bytes = 0
    for tensor in tensors:
        kind = _expert_kind(tensor.name, n_block)
        values[kind is not None] += math.prod(tensor.shape)
        if sent_to(tensor.name) is not None:
            continue
        if tensor.type in stuck:
            stuck_bytes += tensor.size_bytes
            continue
        (expert if kind else dense).append(tensor.size_bytes)
        if kind:
            kinds[kind] = kinds.get(kind, 0) + tensor.size_bytes
    return LayerWeights(
        dense_values=values[False],
        expert_values=values[True],
        expert_kinds=tuple(sorted(kinds.items())),
        dense_bytes=sum(dense),
        expert_bytes=sum(expert),
        stuck_bytes=stuck_bytes,
        largest_dense_bytes=max(dense, default=0),
        largest_expert_bytes=max(expert, default=0),
    )
