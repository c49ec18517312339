"""The printed ledger."""

from __future__ import annotations

from rich.console import Console, RenderableType

from launcher.cli.show.ledger import render_ledger
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
    assert ["host", "9.0G", "-", "-", "-", "9.0G", "100G"] in [line[:7] for line in lines]


def test_a_gpu_in_the_hosts_memory_and_the_host_are_one_row() -> None:
    text = printed(render_ledger([row("MTL0", 356, 463, 356), row(HOST, 9, 494 - 356, 356)]))
    rows = [line.split()[:7] for line in text.splitlines() if line.strip().startswith(("MTL0", HOST))]
    assert rows == [["MTL0+host", "365G", "-", "-", "-", "365G", "494G"]]
    assert "MTL0 takes 356G of it and may take 463G; the host takes 9.0G" in text


def test_a_pool_that_is_too_small_says_how_large_it_is() -> None:
    text = printed(render_ledger([row("MTL0", 30, 20, 30), row(HOST, 9, 22 - 30, 30)]))
    assert ["MTL0+host", "39.0G", "-", "-", "-", "39.0G", "22.0G"] in [
        line.split()[:7] for line in text.splitlines()
    ]
