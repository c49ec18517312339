"""Prompt cache and checkpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.plan.amounts import Basis
from launcher.plan.memory.host_memory import LoadFacts, choose_load_mode, plan_caches
from launcher.plan.memory.kv import BlockCache, state_bytes
from launcher.plan.memory.ledger import Demand, demand_of
from launcher.plan.memory.weights import weigh
from launcher.plan.modes import LoadMode
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.shapes import architecture_of, model, parameters


def test_checkpoints_are_what_a_context_can_use_within_a_quarter() -> None:
    file = model("gemma3", "gemma-3-27b")
    demand = demand_of(architecture_of(file), weigh(architecture_of(file), file.tensors), parameters(32768))
    assert plan_caches(demand, Workload(), 64 * GIB).ctx_checkpoints == 8
    assert plan_caches(demand, Workload(), 8 * GIB).ctx_checkpoints == 4
    assert plan_caches(demand, Workload(), 0).ctx_checkpoints == 0


def test_caches_never_take_more_than_is_left() -> None:
    file = model("gemma3", "gemma-3-27b")
    demand = demand_of(architecture_of(file), weigh(architecture_of(file), file.tensors), parameters(32768))
    for free_gib in (0, 1, 3, 10, 100):
        assert plan_caches(demand, Workload(), free_gib * GIB).amount.n_bytes <= free_gib * GIB


def with_context_of(n_bytes: int) -> Demand:
    """A model without checkpoints whose full context takes this much."""
    file = model("llama")
    demand = demand_of(architecture_of(file), weigh(architecture_of(file), file.tensors), parameters())
    half = BlockCache(attention_bytes=n_bytes // 2, recurrent_bytes=0)
    return replace(demand, caches=replace(demand.caches, blocks=(half, half)))


@pytest.mark.parametrize(
    ("context_bytes", "free_bytes", "cache_bytes"),
    [
        (GIB, 100 * GIB, 4 * GIB),  # four contexts
        (3 * GIB, 100 * GIB, 8 * GIB),  # never more than llama.cpp's own default
        (GIB, 6 * GIB, 3 * GIB),  # half of what is left
        (GIB, 2 * GIB + 3 * MIB, GIB + MIB),  # in whole MiB
        (GIB, 128 * MIB, 64 * MIB),
        (GIB, 127 * MIB, 0),  # less than 64 MiB is not worth having
        (16 * MIB, GIB, 64 * MIB),
        (GIB, -GIB, 0),
    ],
)
def test_the_prompt_cache_is_the_smallest_of_three(
    context_bytes: int, free_bytes: int, cache_bytes: int
) -> None:
    found = plan_caches(with_context_of(context_bytes), Workload(), free_bytes)
    assert (found.cache_ram_bytes, found.amount.n_bytes) == (cache_bytes, cache_bytes)
    assert found.amount.basis is Basis.EXACT
    assert found.ctx_checkpoints == 32  # they take nothing
    (reason,) = found.reasons
    assert reason.startswith(
        "prompt cache" if cache_bytes else "no prompt cache: less than 64.0 MiB is worth"
    )


def test_a_prompt_cache_that_was_asked_for_is_kept() -> None:
    for asked, kept in ((100 * MIB + 5, 100 * MIB), (0, 0), (GIB, GIB)):
        found = plan_caches(with_context_of(GIB), Workload(cache_ram_bytes=asked), 0)
        assert (found.cache_ram_bytes, found.amount.n_bytes) == (kept, kept)
        assert found.reasons[0].endswith(", as asked")


@pytest.mark.parametrize("slots", [1, 2])
def test_checkpoints_are_counted_for_every_slot(slots: int) -> None:
    file = model("gemma3", "gemma-3-27b")
    architecture, asked = architecture_of(file), parameters(8192, n_parallel=slots)
    demand = demand_of(architecture, weigh(architecture, file.tensors), asked)
    state = slots * state_bytes(architecture, asked)
    enough = plan_caches(demand, Workload(cache_ram_bytes=0), 4 * 5 * state)
    assert (enough.ctx_checkpoints, enough.amount.n_bytes) == (
        5,
        5 * state,
    )  # one for 8192 tokens, 4 at the end
    assert enough.reasons[1].startswith("5 context checkpoints a slot, ")
    assert enough.reasons[1].endswith("416.0 MiB each: what a context of 8192 has use for")
    less = plan_caches(demand, Workload(cache_ram_bytes=0), 4 * 5 * state - 1)
    assert (less.ctx_checkpoints, less.amount.n_bytes) == (4, 4 * state)
    assert less.reasons[1].endswith("each: a quarter of the RAM left")
    both = plan_caches(demand, Workload(), 4 * state)  # half of what the checkpoints leave
    assert (both.ctx_checkpoints, both.cache_ram_bytes) == (1, 3 * state // 2 // MIB * MIB)
    assert both.amount.n_bytes == state + both.cache_ram_bytes


def test_a_very_long_context_has_32_checkpoints() -> None:
    file = model("gemma3", "gemma-3-27b")
    demand = demand_of(architecture_of(file), weigh(architecture_of(file), file.tensors), parameters(1 << 20))
    assert plan_caches(demand, Workload(), 1 << 50).ctx_checkpoints == 32


USUAL = LoadFacts(file_bytes=GIB, host_bytes=0, offloads=False, shares_memory=False, ram_bytes=GIB)


@pytest.mark.parametrize(
    ("asked", "facts", "mode", "why"),
    [
        (None, USUAL, LoadMode.MMAP, "the page cache keeps"),
        (None, replace(USUAL, file_bytes=GIB + 1), LoadMode.NONE, "would churn through 1.0 GiB of RAM"),
        (None, replace(USUAL, offloads=True, host_bytes=GIB), LoadMode.NONE, "the 1.0 GiB of weights"),
        (None, replace(USUAL, offloads=True, shares_memory=True), LoadMode.MMAP, "share the memory"),
        (LoadMode.MLOCK, replace(USUAL, offloads=True), LoadMode.MLOCK, "as asked"),
    ],
)
def test_the_load_mode_follows_from_where_the_weights_stay(
    asked: LoadMode | None, facts: LoadFacts, mode: LoadMode, why: str
) -> None:
    chosen, reason = choose_load_mode(Workload(load_mode=asked), facts)
    assert chosen is mode
    assert why in reason
