"""Whole plans, reviewed as text; a change here is a change of plan on somebody's machine."""

from __future__ import annotations

import pytest

from tests.plan.golden import CASES, FOLDER, render


@pytest.mark.parametrize("name", CASES)
def test_plan(name: str) -> None:
    expected = (FOLDER / f"plan-{name}.txt").read_text()
    assert len(expected.splitlines()) <= 40
    assert expected == render(name)
