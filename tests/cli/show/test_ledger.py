"""The printed ledger."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from launcher.cli.show.ledger import divide_digits, render_ledger
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow
from launcher.units import GIB


def printed(what: RenderableType) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def row(where: str, weights: int, budget: int, shared: int = 0) -> LedgerRow:
    return LedgerRow(
        where=where,
        name=where,
        weights=Amount(n_bytes=weights * GIB, basis=Basis.EXACT),
        kv=NOTHING,
        compute=NOTHING,
        cache=NOTHING,
        overhead=NOTHING,
        budget_bytes=budget * GIB,
        shared_bytes=shared * GIB,
    )


def test_memories_are_rows_of_their_own() -> None:
    text = printed(render_ledger([row("CUDA0", 20, 23), row(HOST, 9, 100)]))
    lines = [line.split() for line in text.splitlines()]
    assert ["CUDA0", "20.0G", "-", "-", "-", "20.0G", "23.0G"] in [line[:7] for line in lines]
    assert ["host", "9.0G", "-", "-", "-", "9.0G", "100.0G"] in [line[:7] for line in lines]


def test_a_gpu_in_the_hosts_memory_and_the_host_are_one_row() -> None:
    text = printed(render_ledger([row("MTL0", 356, 463, 356), row(HOST, 9, 494 - 356, 356)]))
    rows = [line.split()[:9] for line in text.splitlines() if line.strip().startswith(("MTL0", HOST))]
    assert rows == [["MTL0", "+", "host", "365.0G", "-", "-", "-", "365.0G", "494.0G"]]
    assert "MTL0 takes 356.0G of it and may take 463.0G; the host takes 9.0G" in text


def test_a_pool_that_is_too_small_says_how_large_it_is() -> None:
    text = printed(render_ledger([row("MTL0", 30, 20, 30), row(HOST, 9, 22 - 30, 30)]))
    assert ["MTL0", "+", "host", "39.0G", "-", "-", "-", "39.0G", "22.0G"] in [
        line.split()[:9] for line in text.splitlines()
    ]


def test_what_a_gpu_has_besides_the_hosts_memory_is_said() -> None:
    text = printed(render_ledger([row("Vulkan0", 30, 40, 29), row(HOST, 9, 60 - 29, 29)]))
    assert "Vulkan0 takes 30.0G of it (1.0G in its carve-out, which is none of the host's)" in text


AMOUNTS = st.builds(
    Amount,
    n_bytes=st.integers(0, 1 << 44),
    basis=st.sampled_from(Basis),
    band_bytes=st.integers(0, 1 << 34),
)
ROWS = st.builds(
    LedgerRow,
    where=st.just("CUDA0"),
    name=st.just("a card"),
    weights=AMOUNTS,
    kv=AMOUNTS,
    compute=AMOUNTS,
    cache=AMOUNTS,
    overhead=AMOUNTS,
    budget_bytes=st.integers(0, 1 << 45),
    adapters=AMOUNTS,
)


def tenths(cell: str) -> tuple[str, int]:
    """The unit and the number of tenths of a printed size."""
    digits = cell.lstrip("~!±")
    return digits[-1], round(float(digits[:-1]) * 10)


@given(ROWS)
def test_the_printed_parts_sum_to_the_printed_total(found: LedgerRow) -> None:
    text = printed(render_ledger([found]))
    (line,) = [line.split() for line in text.splitlines() if line.strip().startswith("CUDA0")]
    *parts, used = [tenths(cell) for cell in line[1:6] if cell != "-"]
    assert {unit for unit, _ in parts} <= {used[0]}
    assert sum(number for _, number in parts) == used[1]


@given(st.lists(st.integers(0, 1 << 44), min_size=1, max_size=6))
def test_each_printed_part_is_right_to_its_last_digit(parts: list[int]) -> None:
    *written, total = divide_digits(parts)
    unit = {"G": GIB, "M": GIB >> 10}[total[-1]]
    for text, size in zip((*written, total), (*parts, sum(parts)), strict=True):
        assert abs(float(text[:-1]) - size / unit) <= 0.1 + 1e-6
