"""Choose the prompt cache, the context checkpoints and the load mode. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.amounts import Amount, Basis
from launcher.plan.memory.kv import state_bytes
from launcher.plan.memory.ledger import Demand
from launcher.plan.modes import LoadMode
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB, format_bytes

_MOST_CACHE = 8 * GIB  # llama.cpp's own default (--cache-ram 8192)
_LEAST_CACHE = 64 * MIB  # less is not worth having
_CONTEXTS_WORTH = 4  # contexts in the prompt cache at most: the current conversation and a few to return to

# llama.cpp's own defaults (--ctx-checkpoints, --checkpoint-min-step). Checkpoints lie a step apart, besides
# a few near the end of each prompt, so a context has no use for more.
_MOST_CHECKPOINTS = 32
_CHECKPOINT_STEP = 8192
_NEAR_END = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCaches:
    cache_ram_bytes: int  # whole MiB, as --cache-ram takes them
    ctx_checkpoints: int  # for each slot
    amount: Amount
    reasons: tuple[str, ...]


def plan_caches(demand: Demand, workload: Workload, free_bytes: int) -> HostCaches:
    """Divide `free_bytes`, the RAM that is left, between prompt cache and checkpoints."""
    # llama-server would take 8 GiB and 32 checkpoints a slot for any model, on any machine. A requested
    # size of the prompt cache is kept; the ledger then shows whether it fits.
    state = state_bytes(demand.architecture, demand.parameters) * demand.parameters.n_parallel
    free = max(free_bytes, 0)
    useful = min(_MOST_CHECKPOINTS, demand.parameters.ctx_size // _CHECKPOINT_STEP + _NEAR_END)
    checkpoints = min(useful, free // 4 // state) if state else _MOST_CHECKPOINTS
    if workload.ctx_checkpoints is not None:
        checkpoints = useful = workload.ctx_checkpoints
    checkpoint_bytes = checkpoints * state
    contexts = _CONTEXTS_WORTH * sum(block.n_bytes for block in demand.caches.blocks)
    cache = min(_MOST_CACHE, (free - checkpoint_bytes) // 2, contexts) // MIB * MIB
    cache = cache if cache >= _LEAST_CACHE else 0
    reason = (
        f"prompt cache {format_bytes(cache)}: the smallest of 8 GiB, half of the RAM left, "
        "and 4 full contexts"
    )
    if cache == 0:
        reason = f"no prompt cache: less than {format_bytes(_LEAST_CACHE)} is worth keeping or left"
    if workload.cache_ram_bytes is not None:
        cache = workload.cache_ram_bytes // MIB * MIB
        reason = f"prompt cache {format_bytes(cache)}, as asked"
    reasons = [reason]
    if state and useful:
        each = format_bytes(state // demand.parameters.n_parallel)
        why = f"what a context of {demand.parameters.ctx_size} can use"
        if checkpoints < useful:
            why = "a quarter of the RAM left"
        reasons.append(f"{checkpoints} context checkpoints a slot, {each} each: {why}")
    return HostCaches(
        cache_ram_bytes=cache,
        ctx_checkpoints=checkpoints,
        amount=Amount(n_bytes=cache + checkpoint_bytes, basis=Basis.EXACT),
        reasons=tuple(reasons),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFacts:
    file_bytes: int  # of all files
    host_bytes: int  # weights that stay on the host
    offloads: bool  # devices compute with those
    shares_memory: bool  # a device in use has the host's memory
    ram_bytes: int


def choose_load_mode(workload: Workload, facts: LoadFacts) -> tuple[LoadMode, str]:
    # mlock is never chosen: it needs a raised limit.
    if workload.load_mode is not None:
        return workload.load_mode, f"load mode {workload.load_mode}, as asked"
    if facts.shares_memory:
        return LoadMode.MMAP, "load mode mmap: device and host share the memory, and the mapping"
    if facts.offloads:
        return (
            LoadMode.NONE,
            (
                f"load mode none: the {format_bytes(facts.host_bytes)} of weights on the host are "
                "page-locked, for fast transfer to the device in prompt processing"
            ),
        )
    if facts.file_bytes > facts.ram_bytes:
        return (
            LoadMode.NONE,
            (
                f"load mode none: mapping {format_bytes(facts.file_bytes)} of files would churn through "
                f"{format_bytes(facts.ram_bytes)} of RAM on the way to the devices"
            ),
        )
    return LoadMode.MMAP, "load mode mmap: the page cache keeps the weights for the next start"
