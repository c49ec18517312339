"""Prompt cache and checkpoints."""

from __future__ import annotations

from launcher.plan.memory.host_memory import plan_caches
from launcher.plan.memory.ledger import demand_of
from launcher.plan.memory.weights import weigh
from launcher.plan.workload import Workload
from launcher.units import GIB
from tests.plan.shapes import architecture_of, model, parameters


def test_checkpoints_are_what_a_context_can_use_within_a_quarter() -> None:
    file = model("gemma3", "gemma-3-27b")
    demand = demand_of(architecture_of(file), weigh(architecture_of(file), file.tensors), parameters(32768))
    assert plan_caches(demand, Workload(), 64 * GIB).ctx_checkpoints == 8
    assert plan_caches(demand, Workload(), 8 * GIB).ctx_checkpoints == 3
    assert plan_caches(demand, Workload(), 0).ctx_checkpoints == 0


def test_caches_never_take_more_than_is_left() -> None:
    file = model("gemma3", "gemma-3-27b")
    demand = demand_of(architecture_of(file), weigh(architecture_of(file), file.tensors), parameters(32768))
    for free_gib in (0, 1, 3, 10, 100):
        assert plan_caches(demand, Workload(), free_gib * GIB).amount.n_bytes <= free_gib * GIB
