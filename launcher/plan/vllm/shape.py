"""Represent a model as vLLM loads it: the bytes of its parts, and what ranks do to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBytes:
    """Weights of one part: divided among the ranks of a stage, or whole on each of them."""

    divided: int
    whole: int = 0

    def on_rank(self, tp: int) -> int:
        return -(-self.divided // tp) + self.whole

    def __add__(self, other: PartBytes) -> PartBytes:
        return PartBytes(divided=self.divided + other.divided, whole=self.whole + other.whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentCache:
    """The cache of multi-head latent attention: one latent a token, whole on every rank."""

    width: int  # kv_lora_rank + qk_rope_head_dim

    def bytes_per_layer(self, tp: int, item_bytes: int) -> int:
        # measured: 310,688 tokens in 1 GiB with one rank and with two
        del tp
        return self.width * item_bytes

    def repeated_bytes(self, tp: int) -> int:
        del tp
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCache:
    """Keys and values by heads, divided among ranks; fewer heads than ranks are repeated."""

    n_kv_heads: int
    head_dim: int
    weight_bytes: int  # of a layer's projections to one head

    def bytes_per_layer(self, tp: int, item_bytes: int) -> int:
        return 2 * max(self.n_kv_heads // tp, 1) * self.head_dim * item_bytes

    def repeated_bytes(self, tp: int) -> int:
        """Return the bytes that a layer has more on each rank, if ranks are more than heads."""
        return self.weight_bytes * max(tp - self.n_kv_heads, 0) // tp


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitWidth:
    """A width of weights that ranks take equal parts of, each a multiple of a quantisation's block."""

    width: int
    step: int = 1

    def divides(self, tp: int) -> bool:
        return tp == 1 or self.width % (tp * self.step) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model out of safetensors, as far as memory goes."""

    source: str  # what `vllm serve` is given: a repo or a folder
    weight_bytes: int  # of all files
    layers: tuple[PartBytes, ...]
    embedding_bytes: int
    head_bytes: int  # 0: the embedding is used again
    tower_bytes: int  # a vision encoder, whole on every rank
    cache: LatentCache | HeadCache
    cache_item_bytes: int
    n_heads: int
    n_kv_heads: int | None  # None: the cache has no heads
    max_ctx: int
    is_quantised: bool
    widths: tuple[SplitWidth, ...]

    def stage(self, rank: int, pp: int) -> PartBytes:
        """Return the weights of one pipeline stage."""
        begin, end = stage_layers(len(self.layers), rank, pp)
        part = PartBytes(divided=0, whole=self.tower_bytes)
        for layer in self.layers[begin:end]:
            part += layer
        is_last = rank == pp - 1
        # the last stage multiplies with the embedding where that is the head, too, and keeps a copy of it
        is_tied = self.head_bytes == 0
        if rank == 0 or (is_tied and is_last):
            part += PartBytes(divided=self.embedding_bytes)
        if is_last:
            part += PartBytes(divided=self.head_bytes)
        return part

    def stages(self, pp: int) -> Iterator[tuple[PartBytes, int]]:
        """Yield the weights and the number of layers of each stage."""
        for rank in range(pp):
            begin, end = stage_layers(len(self.layers), rank, pp)
            yield self.stage(rank, pp), end - begin


def stage_layers(n_layers: int, rank: int, pp: int) -> tuple[int, int]:
    """Return the first layer of a stage and the one after its last."""
    # vllm/distributed/utils.py, get_pp_indices: what remains goes to the stages before the last, from behind
    counts = [n_layers // pp] * pp
    for extra in range(n_layers % pp):
        counts[-(extra + 2)] += 1
    return sum(counts[:rank]), sum(counts[: rank + 1])
