"""Count the bytes of a vLLM rank, and the tokens that its cache holds.

vLLM takes a share of each GPU: weights and what it computes with first, and all that is left is cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from launcher.plan.vllm.shape import ModelShape
from launcher.units import GIB

UTILISATION = Fraction(92, 100)  # --gpu-memory-utilization of vLLM 0.32, of the GPU's whole memory

# Activations at the longest batch, CUDA context, NCCL buffers, CUDA graphs, and the second copy of what MLA
# multiplies with: estimated, no formula of it is known. Logs of 70B to 1T models have 4 to 8 GiB.
RUNTIME_BYTES = (4 * GIB, 8 * GIB)

_BLOCK = 16  # tokens that the cache is handed out by (--block-size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A number that is known to lie between two."""

    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLedger:
    """The bytes of the rank with least room for cache; `cache` may be negative: missing."""

    weights: int
    budget: int
    runtime: Between
    cache: Between
    token_bytes: int  # of cache, on that rank
    tokens: Between  # of all requests together

    @property
    def room(self) -> Between:
        """The bytes that are there for cache."""
        return Between(low=max(self.cache.low, 0), high=max(self.cache.high, 0))

    def lack_of(self, need: int) -> Between:
        """Return the bytes a rank lacks for a cache of so many bytes: surely, and at most."""
        return Between(low=max(need - self.cache.high, 0), high=max(need - self.cache.low, 0))

    def missing_for(self, tokens: int) -> Between:
        """Return the bytes a rank lacks to hold so many tokens: surely, and at most."""
        return self.lack_of(blocks(tokens) * _BLOCK * self.token_bytes)


def blocks(tokens: int) -> int:
    return -(-tokens // _BLOCK)


def tokens_in(cache_bytes: int, token_bytes: int) -> int:
    """Return how many tokens a cache of so many bytes holds: whole blocks."""
    # measured with 0.32: 1 GiB is 524,288 tokens of 2,048 B, and 310,688 of 3,456 B
    return max(cache_bytes, 0) // (_BLOCK * token_bytes) * _BLOCK


def token_bytes(shape: ModelShape, n_layers: int, tp: int) -> int:
    """Return the bytes of cache that a token takes on a rank with so many layers."""
    return n_layers * shape.cache.bytes_per_layer(tp, shape.cache_item_bytes)


def rank_ledger(shape: ModelShape, gpu_bytes: int, tp: int, pp: int, utilisation: Fraction) -> RankLedger:
    """Return the ledger of the rank whose cache ends first: all ranks hold as many tokens as that one."""
    budget = int(gpu_bytes * utilisation)
    ledgers = [
        _ledger(
            part.on_rank(tp) + n_layers * shape.cache.repeated_bytes(tp),
            budget,
            token_bytes(shape, n_layers, tp),
        )
        for part, n_layers in shape.stages(pp)
    ]
    return min(ledgers, key=lambda ledger: (ledger.tokens.low, ledger.cache.low))


def _ledger(weights: int, budget: int, per_token: int) -> RankLedger:
    least, most = RUNTIME_BYTES
    cache = Between(low=budget - weights - most, high=budget - weights - least)
    return RankLedger(
        weights=weights,
        budget=budget,
        runtime=Between(low=least, high=most),
        cache=cache,
        token_bytes=per_token,
        tokens=Between(low=tokens_in(cache.low, per_token), high=tokens_in(cache.high, per_token)),
    )
