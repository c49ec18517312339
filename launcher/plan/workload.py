"""What is asked for: context, slots, limits, preference. PURE."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from launcher.plan.amounts import Amount
from launcher.plan.modes import CacheType, FlashAttention, LoadMode, NumaMode, TensorOverride
from launcher.plan.rope import Rope


class Prefer(StrEnum):
    """What a choice between plans that fit is made by (see `preference`)."""

    QUALITY = "quality"
    BALANCED = "balanced"
    SPEED = "speed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
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

    # The fields of ContextParameters, each of them open; hence not that type.
    ctx_size: int | None = None
    n_parallel: int = 1
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    batch_size: int | None = None
    ubatch_size: int | None = None
    flash_attn: FlashAttention = FlashAttention.AUTO
    cache_ram_bytes: int | None = None
    load_mode: LoadMode | None = None
    prefer: Prefer = Prefer.BALANCED
    min_tps: float | None = None
    numa: NumaMode | None = None
    adapters: tuple[Adapter, ...] = ()
    overrides: tuple[TensorOverride, ...] = ()
    rope: Rope = Rope()


def as_recorded(workload: Workload) -> dict[str, Any]:
    """Return the workload's fields under the keys that records of deployments were hashed with."""
    fields = asdict(workload)
    # A deployment that runs must stay the same request, whatever a field is called today.
    fields["extras"] = fields.pop("adapters")
    fields["flash_attn"] = workload.flash_attn.switch
    return fields
