from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.machine.machine import Backend, Device, format_cpu_list, parse_cpu_list, pinned_order


@given(st.lists(st.integers(0, 8191)).map(tuple))
def test_cpu_lists(cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(format_cpu_list(cpus)) == cpus


@pytest.mark.parametrize("text", ["x", "1-", "-1", "3-1", "1,,2", "0-8192", "1 2", "\u0661"])
def test_cpu_list_garbage(text: str) -> None:
    assert parse_cpu_list(text) is None


def test_pinned_order_is_all_cuda_cards_or_none() -> None:
    card = Device(id="CUDA0", backend=Backend.CUDA, name="A", total_bytes=1, free_bytes=1, uuid="GPU-1")
    other = replace(card, id="Vulkan0", backend=Backend.VULKAN, uuid="GPU-2")
    assert pinned_order((card, other)) == (("CUDA_VISIBLE_DEVICES", "GPU-1"),)
    assert pinned_order((card, replace(card, uuid=None))) == ()
    assert pinned_order(()) == ()
