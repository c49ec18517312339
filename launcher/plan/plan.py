"""The plan as a value: what was asked for (`Workload`), what was decided (`Plan`), what is missing (`Shortfall`).

It knows no flag of llama-server; `engine.argv` puts a plan into that dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HOST = "host"


class Basis(StrEnum):
    """Where a number comes from."""

    EXACT = "exact"
    SIMULATED = "simulated"
    MEASURED = "measured"
    ESTIMATED = "estimated"


SURE_TO_UNSURE = (Basis.EXACT, Basis.MEASURED, Basis.SIMULATED, Basis.ESTIMATED)
"""A whole is as sure as its least sure part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Bytes with their provenance; an estimate carries its band (± `band_bytes`)."""

    n_bytes: int
    basis: Basis
    band_bytes: int = 0


NOTHING = Amount(n_bytes=0, basis=Basis.EXACT)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one device, or the host, holds once the model runs.

    `where` is a device id or HOST. `cache` is llama-server's prompt cache and checkpoints (host only);
    `overhead` is what the backend itself takes. The band of every estimate is counted as used.
    """

    where: str
    name: str
    weights: Amount
    kv: Amount
    compute: Amount
    cache: Amount
    overhead: Amount
    budget_bytes: int

    @property
    def amounts(self) -> tuple[Amount, ...]:
        return (self.weights, self.kv, self.compute, self.cache, self.overhead)

    @property
    def used_bytes(self) -> int:
        """The most this row can take: every amount at the upper end of its band."""
        return sum(amount.n_bytes + amount.band_bytes for amount in self.amounts)

    @property
    def free_bytes(self) -> int:
        """Budget left over; negative is what is missing."""
        return self.budget_bytes - self.used_bytes


class LoadMode(StrEnum):
    """How weights get into memory; llama-server's `--load-mode` values (`mmap+mlock`, `dio` are not planned)."""

    MMAP = "mmap"
    NONE = "none"
    MLOCK = "mlock"


class CacheType(StrEnum):
    """KV cache element types llama-server takes (common/arg.cpp, kv_cache_types)."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    Q4_1 = "q4_1"
    IQ4_NL = "iq4_nl"
    Q5_0 = "q5_0"
    Q5_1 = "q5_1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the user asks for; None is left to the planner. `ctx_size` is what one request can use.

    `stream_weights` accepts weights beyond the RAM budget, read from disk again and again through mmap.
    """

    ctx_size: int | None = None
    n_parallel: int = 1
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    batch_size: int = 2048
    ubatch_size: int = 512
    flash_attn: bool | None = None
    cache_ram_bytes: int | None = None
    load_mode: LoadMode | None = None
    stream_weights: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Who sits where.

    A model has `n_block` + 1 layers: its blocks, and the output layer as the last. The last `n_gpu_layers` of
    them are on devices; `tensor_split[i]` of these on `devices[i]`, in that order, so they sum to
    `n_gpu_layers` (n_block + 1 when everything is, 0 and empty tuples for CPU only). The blocks before them
    are on the host whole. `host_expert_blocks` are the blocks whose routed experts stay in host memory.
    """

    n_block: int
    n_gpu_layers: int
    devices: tuple[str, ...]
    tensor_split: tuple[int, ...]
    host_expert_blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A model, placed on a machine, that fits. `ctx_size` is the KV pool: one request can use all of it,
    `n_parallel` requests at once share it. Every choice has a sentence in `reasons`.

    `ctx_checkpoints` is how many states of a sliding window or recurrence each slot keeps; `warmup` False
    spares a first pass over weights that do not fit in memory at once.
    """

    model_id: str
    source: str
    quant: str
    size_bytes: int
    ctx_size: int
    n_parallel: int
    cache_type_k: CacheType
    cache_type_v: CacheType
    batch_size: int
    ubatch_size: int
    flash_attn: bool | None
    load_mode: LoadMode
    cache_ram_bytes: int
    ctx_checkpoints: int
    warmup: bool
    threads: int
    placement: Placement
    ledger: tuple[LedgerRow, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Nothing fits. `where` lacks `missing_bytes` in the smallest arrangement that was tried; `ledger` is that
    arrangement's. `hints` are changes that were planned and do fit (`-c 65536`), the smallest first."""

    model_id: str
    source: str
    quant: str
    size_bytes: int
    ctx_size: int
    where: str
    missing_bytes: int
    ledger: tuple[LedgerRow, ...]
    reasons: tuple[str, ...]
    hints: tuple[str, ...]
