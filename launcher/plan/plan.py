"""The result of planning: a Plan, or a Shortfall when nothing fits.

Neither knows llama-server's flags; `engine.flags.argv` writes a plan as a command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from launcher.machine.machine import Peer
from launcher.plan.amounts import DISK, HOST, SPEED, LedgerRow
from launcher.plan.modes import LazyMode, LoadMode, NumaMode, TensorOverride
from launcher.plan.parameters import ContextParameters
from launcher.units import format_bytes

# A supervisor reads plans' names and numbers, and starts sooner without the forecast's tables.
if TYPE_CHECKING:
    from launcher.plan.forecast.turn import Forecast


class Finding(StrEnum):
    """How far a statement that something fits can be trusted. Only `FITS` is a plain yes."""

    FITS = "fits"  # by llama.cpp's own allocator
    FITS_BY_ESTIMATE = "fits_by_estimate"  # by the planner's formulas, as no simulator can be asked here
    UNVERIFIED = "unverified"  # by formulas only: the simulator was asked and gave no answer
    DOES_NOT_FIT = "does_not_fit"


def find(simulated_by: str | None, unverified: str | None) -> Finding:
    """Return what is found about something that fits by its ledger."""
    if unverified is not None:
        return Finding.UNVERIFIED
    return Finding.FITS if simulated_by else Finding.FITS_BY_ESTIMATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    # A model has `n_block` + 1 layers: its blocks, then the output layer. The blocks before the last
    # `n_gpu_layers` are on the host whole.
    n_block: int
    n_gpu_layers: int  # layers on devices: n_block + 1 for all, 0 for CPU only
    devices: tuple[str, ...]
    tensor_split: tuple[int, ...]  # layers on each of `devices`, in order; sums to n_gpu_layers
    host_expert_blocks: tuple[int, ...]  # blocks whose routed experts stay on the host
    # (block, kinds): blocks of which only some kinds of experts (`up`, `down`, `gate`, `gate_up`) stay there.
    host_expert_parts: tuple[tuple[int, tuple[str, ...]], ...] = ()
    overrides: tuple[TensorOverride, ...] = ()  # the user's rules, which take precedence over all of that
    # What the RAM has no room for, of the routed experts on the host: all of those are pages of the file.
    paged_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Devices without which the RAM is enough, or less short."""

    devices: tuple[str, ...]
    missing_bytes: int  # RAM that is missing if they are used


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(ContextParameters):
    """A placement of a model on a machine that fits.

    One request can use all of the KV pool (`ctx_size`); `n_parallel` requests at once share it.
    """

    model_id: str
    source: str
    quant: str
    size_bytes: int
    load_mode: LoadMode
    cache_ram_bytes: int
    ctx_checkpoints: int  # states of a sliding window or recurrence that each slot keeps
    threads: int
    placement: Placement
    ledger: tuple[LedgerRow, ...]
    reasons: tuple[str, ...]  # a sentence for every choice
    lazy_mode: LazyMode = LazyMode.AUTO
    peers: tuple[Peer, ...] = ()  # where RPC0 and on are, used or not
    numa: NumaMode | None = None
    cpus: tuple[int, ...] = ()  # CPUs that the process is bound to; empty for any
    forecast: Forecast | None = None
    simulated_by: str | None = None  # the llama.cpp that computed the ledger; None for the planner's estimate
    unverified: str | None = None  # why the simulator, which was asked, gave no answer for some of the ledger

    @property
    def finding(self) -> Finding:
        return find(self.simulated_by, self.unverified)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """The memory, disk space or speed that is missing where nothing fits."""

    model_id: str
    source: str
    quant: str
    size_bytes: int
    ctx_size: int
    cache_types: str
    where: str  # a device's id, HOST, DISK or SPEED
    missing_bytes: int
    ledger: tuple[LedgerRow, ...]  # of the smallest arrangement that was tried
    reasons: tuple[str, ...]
    hints: tuple[str, ...]  # changes that were planned and do fit (`-c 65536`), the smallest first

    @property
    def lack(self) -> str:
        if self.where == SPEED:
            return "the fastest that fits is slower than asked"
        missing = format_bytes(self.missing_bytes)
        if self.where == DISK:
            return f"its download is {missing} more than the disk has free"
        return f"{'RAM' if self.where == HOST else self.where} is {missing} short"
