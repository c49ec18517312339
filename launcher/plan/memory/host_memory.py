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

# llama.cpp's own defaults (--ctx-checkpoints, --checkpoint-min-step). A plan gives a context one checkpoint
# for each step and a few near its end. llama-server itself fills its list with up to three for each prompt,
# however short (server_context_impl::create_checkpoint drops those close together only from a full list).
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
        why = f"what a context of {demand.parameters.ctx_size} has use for"
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
class ServerCaches:
    """What llama-server keeps in RAM while it serves, at its limits."""

    prompt_bytes: int  # of the prompt cache
    checkpoints: int  # of each slot
    checkpoint_bytes: int  # of each
    slots: int  # that keep some at the same time
    all_slots: int

    @property
    def checkpoints_bytes(self) -> int:
        return self.slots * self.checkpoints * self.checkpoint_bytes

    @property
    def mostly_checkpoints(self) -> bool:
        return self.checkpoints_bytes > self.prompt_bytes

    @property
    def amount(self) -> Amount:
        return Amount(n_bytes=self.prompt_bytes + self.checkpoints_bytes, basis=Basis.EXACT)


def full_caches(demand: Demand, *, prompt_bytes: int, checkpoints: int, swa_full: bool) -> ServerCaches:
    """Return the prompt cache and the checkpoints of all slots when they are full."""
    state = state_bytes(demand.architecture, demand.parameters, swa_full=swa_full)
    slots = demand.parameters.n_parallel
    return ServerCaches(
        prompt_bytes=prompt_bytes,
        checkpoints=checkpoints if state else 0,
        checkpoint_bytes=state,
        slots=slots,
        all_slots=slots,
    )


def describe_caches(caches: ServerCaches) -> tuple[str, ...]:
    """Say how many checkpoints there are and how large they get."""
    if not caches.checkpoints:
        return ()
    each = f"{caches.checkpoints} of {format_bytes(caches.checkpoint_bytes)}"
    total = format_bytes(caches.checkpoints_bytes)
    every = caches.all_slots * caches.checkpoints * caches.checkpoint_bytes
    if caches.all_slots == 1:
        slots = f"up to {each}, {total}"
    elif caches.slots == caches.all_slots:
        slots = f"up to {each} for each of {caches.slots} slots, {total}"
    else:
        slots = (
            f"up to {each} for the request at work, {total} (idle slots are cleared; {caches.all_slots} "
            f"at once would keep {format_bytes(every)})"
        )
    return (
        (
            f"context checkpoints (states of a window or a recurrence, to go back to): {slots}; they fill "
            "while the server runs, --ctx-checkpoints N keeps fewer"
        ),
    )


def describe_cure(caches: ServerCaches, missing_bytes: int) -> str:
    """Return the flags under which the caches take so much less; empty if they do not take as much."""
    room = caches.amount.n_bytes - missing_bytes
    state = caches.slots * caches.checkpoint_bytes
    if room < 0:
        return ""
    if not caches.checkpoints:
        return f"--cache-ram {room // MIB}"
    if room >= caches.prompt_bytes:
        return f"--ctx-checkpoints {(room - caches.prompt_bytes) // state}"
    if room >= caches.checkpoints_bytes:
        return f"--cache-ram {(room - caches.checkpoints_bytes) // MIB}"
    checkpoints = room // 2 // state
    return f"--cache-ram {(room - checkpoints * state) // MIB} --ctx-checkpoints {checkpoints}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFacts:
    file_bytes: int  # of all files
    host_bytes: int  # weights that stay on the host
    offloads: bool  # devices compute with those
    shares_memory: bool  # a device in use has the host's memory
    ram_bytes: int
    paged_bytes: int = 0  # of experts for which the RAM has no room


def choose_load_mode(workload: Workload, facts: LoadFacts) -> tuple[LoadMode, str]:
    # mlock is never chosen: it needs a raised limit.
    if facts.paged_bytes:
        return (
            LoadMode.MMAP,
            "load mode mmap, nothing repacked: what is read from the file has to be its pages",
        )
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
