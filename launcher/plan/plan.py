"""The plan as a value: what was asked for (`Workload`), what was decided (`Plan`), what is missing (`Shortfall`).

It knows no flag of llama-server; `engine.argv` puts a plan into that dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from launcher.plan.reach import Rope
from launcher.units import format_bytes

# A supervisor reads plans' names and numbers, and starts sooner without the forecast's tables.
if TYPE_CHECKING:
    from launcher.forecast.turn import Forecast

HOST = "host"
DISK = "disk"
SPEED = "speed"


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
    `overhead` is what the backend itself takes, `extra` further files (projector, draft model, adapters). The
    band of every estimate is counted as used.
    """

    where: str
    name: str
    weights: Amount
    kv: Amount
    compute: Amount
    cache: Amount
    overhead: Amount
    budget_bytes: int
    extra: Amount = NOTHING

    @property
    def amounts(self) -> tuple[Amount, ...]:
        return (self.weights, self.kv, self.compute, self.cache, self.overhead, self.extra)

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


class Prefer(StrEnum):
    """What a choice between plans that fit is made by (see `preference`)."""

    QUALITY = "quality"
    BALANCED = "balanced"
    SPEED = "speed"


class NumaMode(StrEnum):
    """llama-server's `--numa` values, and `off` for none."""

    DISTRIBUTE = "distribute"
    ISOLATE = "isolate"
    NUMACTL = "numactl"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOverride:
    """Tensors whose name `pattern` (std::regex, searched, first match wins) finds go to `where`: a device's
    id, or HOST."""

    pattern: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A further file that the user's flags load, and what it takes: `everywhere` on each device in use
    (an upper bound for adapters, whose tensors go with the layers), else on the first one; on the host without any."""

    name: str
    amount: Amount
    everywhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What of the machine may be used. `reserve` pairs a device's id, `ram`, or `` (every device) with bytes to
    leave free; `gpus` are the ids or numbers of the devices that may be used, None for all."""

    reserve: tuple[tuple[str, int], ...] = ()
    gpus: tuple[str, ...] | None = None
    max_ram_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the user asks for; None is left to the planner. `ctx_size` is what one request can use.

    `min_tps` is the least generation speed, in predicted tokens/s, that a plan may have. `overrides` fix tensors to a place,
    whatever is planned for the rest. `rope` moves the context that a request may have.
    """

    ctx_size: int | None = None
    n_parallel: int = 1
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    batch_size: int | None = None
    ubatch_size: int | None = None
    flash_attn: bool | None = None
    cache_ram_bytes: int | None = None
    load_mode: LoadMode | None = None
    prefer: Prefer = Prefer.BALANCED
    min_tps: float | None = None
    numa: NumaMode | None = None
    extras: tuple[Extra, ...] = ()
    overrides: tuple[TensorOverride, ...] = ()
    rope: Rope = Rope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Who sits where.

    A model has `n_block` + 1 layers: its blocks, and the output layer as the last. The last `n_gpu_layers` of
    them are on devices; `tensor_split[i]` of these on `devices[i]`, in that order, so they sum to
    `n_gpu_layers` (n_block + 1 when everything is, 0 and empty tuples for CPU only). The blocks before them
    are on the host whole. `host_expert_blocks` are the blocks whose routed experts stay in host memory,
    `host_expert_parts` those of which only some kinds (`up`, `down`, `gate`, `gate_up`) do.
    `overrides` are the user's: they go before all of that.
    """

    n_block: int
    n_gpu_layers: int
    devices: tuple[str, ...]
    tensor_split: tuple[int, ...]
    host_expert_blocks: tuple[int, ...]
    host_expert_parts: tuple[tuple[int, tuple[str, ...]], ...] = ()
    overrides: tuple[TensorOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A model, placed on a machine, that fits. `ctx_size` is the KV pool: one request can use all of it,
    `n_parallel` requests at once share it. Every choice has a sentence in `reasons`.

    `ctx_checkpoints` is how many states of a sliding window or recurrence each slot keeps. `numa` is llama-server's `--numa`
    value, `cpus` are those that its process is bound to (any where empty), `simulated_by` the llama.cpp that computed the ledger, None where it is the planner's own estimate.
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
    threads: int
    placement: Placement
    ledger: tuple[LedgerRow, ...]
    reasons: tuple[str, ...]
    numa: NumaMode | None = None
    cpus: tuple[int, ...] = ()
    forecast: Forecast | None = None
    simulated_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Nothing fits. `where` lacks `missing_bytes` in the smallest arrangement that was tried; `ledger` is that
    arrangement's. `hints` are changes that were planned and do fit (`-c 65536`), the smallest first."""

    model_id: str
    source: str
    quant: str
    size_bytes: int
    ctx_size: int
    cache_types: str
    where: str
    missing_bytes: int
    ledger: tuple[LedgerRow, ...]
    reasons: tuple[str, ...]
    hints: tuple[str, ...]

    @property
    def lack(self) -> str:
        """What is missing, in a few words."""
        if self.where == SPEED:
            return "the fastest that fits is slower than asked"
        missing = format_bytes(self.missing_bytes)
        if self.where == DISK:
            return f"its download is {missing} more than the disk has free"
        return f"{self.where} is {missing} short"
