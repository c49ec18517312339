"""Seconds for one token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.forecast.decode import token_seconds
from tests.plan.forecast.stages import CARD, stage


@given(st.floats(1e8, 1e11), st.floats(1.01, 10), st.integers(0, 200_000))
def test_more_bytes_and_more_depth_are_never_faster(read: float, more: float, depth: int) -> None:
    assert token_seconds([stage(CARD, read * more)], depth) > token_seconds([stage(CARD, read)], depth)
    assert token_seconds([stage(CARD, read)], depth + 1000) > token_seconds([stage(CARD, read)], depth)
