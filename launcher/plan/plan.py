"""The plan as a value: what was decided (`Plan`), what is missing (`Shortfall`).

It knows no flag of llama-server; `engine.flags.argv` puts a plan into that dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.plan.amounts import DISK, SPEED, LedgerRow
from launcher.plan.modes import LoadMode, NumaMode, TensorOverride
from launcher.plan.parameters import ContextParameters
from launcher.units import format_bytes

# A supervisor reads plans' names and numbers, and starts sooner without the forecast's tables.
if TYPE_CHECKING:
    from launcher.plan.forecast.turn import Forecast


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
class Plan(ContextParameters):
    """A model, placed on a machine, that fits. `ctx_size` is the KV pool: one request can use all of it,
    `n_parallel` requests at once share it. Every choice has a sentence in `reasons`.

    `ctx_checkpoints` is how many states of a sliding window or recurrence each slot keeps. `numa` is llama-server's `--numa`
    value, `cpus` are those that its process is bound to (any where empty), `simulated_by` the llama.cpp that computed the ledger, None where it is the planner's own estimate.
    """

    model_id: str
    source: str
    quant: str
    size_bytes: int
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
