"""The request: context, slots, limits, preference. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from launcher.plan.amounts import Amount
from launcher.plan.modes import (
    CacheType,
    Dialect,
    FlashAttention,
    LazyMode,
    LoadMode,
    NumaMode,
    Pooling,
    TensorOverride,
)
from launcher.plan.rope import Rope


class Prefer(StrEnum):
    QUALITY = "quality"
    BALANCED = "balanced"
    SPEED = "speed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A further file that llama-server loads, such as a LoRA adapter."""

    name: str
    amount: Amount
    # Count it on each device in use, as an upper bound: an adapter's tensors go with the layers. Otherwise on
    # the first device. Without devices it is on the host.
    everywhere: bool = False


NO_GPUS = "none"
"""In place of a list of GPUs: the processor alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    reserve: tuple[
        tuple[str, int], ...
    ] = ()  # (device id, `ram`, or "" for every device; bytes to leave free)
    gpus: tuple[str, ...] | None = None  # ids or numbers of devices; None for all, () for none
    max_ram_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The user's request; None leaves a choice to the planner."""

    # As in ContextParameters, which is for settled values: here most may be left open.
    ctx_size: int | None = None  # tokens that one request can use
    n_parallel: int = 1
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    batch_size: int | None = None
    ubatch_size: int | None = None
    flash_attn: FlashAttention = FlashAttention.AUTO
    embedding: bool = False
    pooling: Pooling | None = None
    op_offload: bool = True
    cache_ram_bytes: int | None = None
    ctx_checkpoints: int | None = None  # of each slot
    load_mode: LoadMode | None = None
    lazy_mode: LazyMode | None = None
    prefer: Prefer = Prefer.BALANCED
    min_tps: float | None = None  # least predicted tokens/s of generation
    from_disk: bool = False  # experts beyond the RAM may be read from the file as they are used
    numa: NumaMode | None = None
    adapters: tuple[Adapter, ...] = ()
    overrides: tuple[TensorOverride, ...] = ()  # tensors with a fixed place
    rope: Rope = Rope()  # scaling that changes how long a request may be
    dialect: Dialect = Dialect.LLAMA_CPP  # the engine's, never the user's to ask for


def as_recorded(workload: Workload) -> dict[str, Any]:
    """Return the workload's fields under the keys that records of deployments were hashed with."""
    fields = asdict(workload)
    # A deployment that runs must stay the same request, whatever a field is called today.
    fields["extras"] = fields.pop("adapters")
    fields["flash_attn"] = workload.flash_attn.switch
    del fields["dialect"]
    if workload.op_offload:
        del fields["op_offload"]
    for later in ("lazy_mode", "ctx_checkpoints", "pooling", "embedding", "from_disk"):
        if fields[later] is None or fields[later] is False:
            del fields[later]
    return fields
