"""Seconds for one token."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.forecast.decode import Stage, token_seconds
from launcher.plan.forecast.processors import GB, Processor, ProcessorFamily
from tests.plan.forecast.stages import CARD, HOST, ROUND, stage


@given(st.floats(1e8, 1e11), st.floats(1.01, 10), st.integers(0, 200_000))
def test_more_bytes_and_more_depth_are_never_faster(read: float, more: float, depth: int) -> None:
    assert token_seconds([stage(CARD, read * more)], depth) > token_seconds([stage(CARD, read)], depth)
    assert token_seconds([stage(CARD, read)], depth + 1000) > token_seconds([stage(CARD, read)], depth)


def only(
    processor: Processor, *, n_layers: float = 0, read: float = 0, kv: float = 0, latent: bool = False
) -> Stage:
    """A stage that costs nothing but what is given."""
    return Stage(
        processor=processor,
        n_layers=n_layers,
        read_bytes=read,
        held_bytes=read,
        flops=0,
        kv_bytes=kv,
        latent=latent,
    )


# CARD: 1000 GB/s, HOST: 80 GB/s and 16 cores that get through 24 GB/s each; ROUND: 70 % of either for weights.
@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        (only(CARD, read=700 * GB), 1),
        (only(CARD, kv=GB), 2000 / 500),
        (only(CARD, kv=GB, latent=True), 2000 / 160),
        (only(CARD, n_layers=100), 100 * 60e-6),
        (only(replace(CARD, family=ProcessorFamily.METAL), read=700 * GB), 1),
        (only(HOST, read=GB), 1 / (0.7 * 80) + 1 / (16 * 24)),
        (only(replace(HOST, cores=0), read=GB), 1 / (0.7 * 80) + 1 / 24),
        # The second of two sockets adds 35 %, and each has half of what is named.
        (only(replace(HOST, sockets=2), read=1.35 * GB), 2 * (1 / (0.7 * 80) + 1 / (16 * 24))),
    ],
)
def test_what_a_token_costs(what: Stage, seconds: float) -> None:
    assert math.isclose(token_seconds([what], 2000, ROUND), seconds, rel_tol=1e-9)
    assert math.isclose(token_seconds([what, what], 2000, ROUND), 2 * seconds, rel_tol=1e-9)
