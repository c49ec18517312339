"""Speed with tokens drafted several at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.plan.forecast.decode import token_seconds
from launcher.plan.forecast.drafts import Drafting, drafted_rate
from launcher.units import GIB
from tests.plan.forecast.stages import CARD, HOST, stage

NO_DRAFTER = ()
DENSE = replace(stage(CARD, 10 * GIB), held_bytes=10 * GIB)


def test_a_draft_counts_only_if_all_before_it_are_right() -> None:
    assert Drafting(n_tokens=3, acceptance=0.5).expected_tokens == 1 + 0.5 + 0.25 + 0.125
    assert Drafting(n_tokens=3, acceptance=0.0).expected_tokens == 1
    assert Drafting(n_tokens=3, acceptance=1.0).expected_tokens == 4


def test_a_dense_model_on_a_card_is_read_once_for_all_drafts() -> None:
    plain = 1 / token_seconds([DENSE], 1000)
    rate = drafted_rate([DENSE], NO_DRAFTER, 1000, Drafting(n_tokens=3, acceptance=0.5))
    assert rate == pytest.approx(1.875 * plain)


def test_drafts_that_are_never_right_cost_what_the_drafter_costs() -> None:
    drafter = replace(DENSE, read_bytes=GIB, held_bytes=GIB, n_layers=1)
    never = Drafting(n_tokens=2, acceptance=0.0)
    assert 1 / drafted_rate([DENSE], [drafter], 0, never) == pytest.approx(
        token_seconds([DENSE], 0) + 3 * token_seconds([drafter], 0)
    )


def test_each_draft_uses_experts_of_its_own() -> None:
    """Of eight experts one token uses one; of two tokens both use the same one time in eight."""
    experts = replace(DENSE, read_bytes=2 * GIB, held_bytes=9 * GIB, expert_share=1 / 8)  # 1 GiB dense
    read = replace(DENSE, read_bytes=GIB + 8 * GIB * (1 - (7 / 8) ** 2), held_bytes=9 * GIB)
    one = Drafting(n_tokens=1, acceptance=1.0)
    assert drafted_rate([experts], NO_DRAFTER, 0, one) == pytest.approx(2 / token_seconds([read], 0))


def test_a_host_computes_for_each_draft() -> None:
    host = replace(stage(HOST, 10 * GIB), held_bytes=10 * GIB)
    rate = drafted_rate([host], NO_DRAFTER, 0, Drafting(n_tokens=3, acceptance=1.0))
    assert 1 < rate * token_seconds([host], 0) < 4
