"""The memory that a plan may use."""

from __future__ import annotations

import pytest

from launcher.machine.machine import Backend
from launcher.plan.memory.budget import device_margin, ram_reserve, read_budgets
from launcher.units import GIB, MIB
from tests.plan.shapes import device, machine


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
