"""Bytes with their provenance."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan.amounts import NOTHING, Amount, Basis, add_amounts


def test_a_sum_is_as_sure_as_its_least_sure_part() -> None:
    exact, guess = (
        Amount(n_bytes=2, basis=Basis.EXACT),
        Amount(n_bytes=3, basis=Basis.ESTIMATED, band_bytes=1),
    )
    assert add_amounts(exact, guess) == Amount(n_bytes=5, basis=Basis.ESTIMATED, band_bytes=1)
    assert add_amounts(exact, replace(NOTHING, basis=Basis.ESTIMATED)) == exact
