"""Bytes with their provenance."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow, add_amounts


def test_a_sum_is_as_sure_as_its_least_sure_part() -> None:
    exact, guess = (
        Amount(n_bytes=2, basis=Basis.EXACT),
        Amount(n_bytes=3, basis=Basis.ESTIMATED, band_bytes=1),
    )
    assert add_amounts(exact, guess) == Amount(n_bytes=5, basis=Basis.ESTIMATED, band_bytes=1)
    assert add_amounts(exact, replace(NOTHING, basis=Basis.ESTIMATED)) == exact


def test_a_row_is_full_at_the_top_of_every_band() -> None:
    one = Amount(n_bytes=10, basis=Basis.ESTIMATED, band_bytes=1)
    row = LedgerRow(
        where="CUDA0",
        name="a card",
        weights=one,
        kv=one,
        compute=one,
        cache=one,
        overhead=one,
        adapters=one,
        budget_bytes=70,
        shared_bytes=5,
    )
    assert (row.used_bytes, row.free_bytes, row.memory) == (66, 4, (66, 70))
    assert replace(row, where=HOST).memory == (71, 75)  # with what devices take of its memory
