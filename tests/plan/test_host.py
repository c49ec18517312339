"""Budgets, threads and what the host keeps besides weights."""

from __future__ import annotations

import pytest

from launcher.machine.machine import Backend, Cpu
from launcher.plan.memory.budget import device_margin, ram_reserve, read_budgets
from launcher.plan.memory.host_memory import plan_caches
from launcher.plan.memory.ledger import demand_of
from launcher.plan.memory.weights import weigh
from launcher.plan.placement.threads import choose_threads
from launcher.plan.workload import Workload
from launcher.units import GIB, MIB
from tests.plan.shapes import architecture_of, device, eight_cores, machine, model, parameters


@pytest.mark.parametrize(
    ("ram_bytes", "reserve"),
    [(2 * GIB, 512 * MIB), (16 * GIB, GIB), (128 * GIB, 8 * GIB), (2048 * GIB, 8 * GIB)],
)
def test_the_reserve_grows_with_ram_and_stops(ram_bytes: int, reserve: int) -> None:
    assert reserve == ram_reserve(machine(ram_bytes=ram_bytes))


@pytest.mark.parametrize("backend", [Backend.CUDA, Backend.VULKAN, Backend.METAL])
def test_margin_and_overhead_are_what_llama_cpp_leaves(backend: Backend) -> None:
    card = device(0, 24 * GIB, backend=backend)
    budget = read_budgets(machine(card)).devices[0]
    top = budget.overhead.n_bytes + budget.overhead.band_bytes
    assert top + device_margin(card) == 1024 * MIB
    assert budget.n_bytes == 24 * GIB - device_margin(card)


def test_a_card_with_a_screen_keeps_more() -> None:
    assert device_margin(device(0, GIB, display=True)) == device_margin(device(0, GIB)) + 512 * MIB


@pytest.mark.parametrize(
    ("cpu", "threads"),
    [
        (eight_cores(), 8),
        (eight_cores(performance=None), 8),
        (eight_cores(quota=2.5), 2),
        (eight_cores(quota=0.5), 1),
        (eight_cores(affinity=3), 3),
        (
            Cpu(
                name=None,
                physical_cores=None,
                performance_cores=None,
                logical_cores=6,
                affinity=6,
                quota=None,
                isa=(),
            ),
            6,
        ),
    ],
)
def test_threads_are_cores_that_can_be_used(cpu: Cpu, threads: int) -> None:
    count, reason = choose_threads(cpu)
    assert count == threads
    assert reason.startswith(f"{threads} thread")


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
