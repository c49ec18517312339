"""Seconds for one token."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.forecast.decode import Attention, Stage, token_seconds
from launcher.plan.forecast.factors import WHOLE_LAYER_S
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


# CARD: 1000 GB/s, HOST: 80 GB/s and 16 cores that get through 16 GB/s each; ROUND: 70 % of either for weights.
@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        (only(CARD, read=700 * GB), 1),
        (only(CARD, kv=GB), 2000 / 500),
        (only(CARD, kv=GB, latent=True), 2000 / 160),
        (only(CARD, n_layers=100), 100 * 60e-6),
        (only(replace(CARD, family=ProcessorFamily.METAL), read=700 * GB), 1),
        (only(HOST, read=GB), 1 / (0.7 * 80)),
        (only(replace(HOST, cores=2), read=GB), 1 / (2 * 16)),  # the cores are slower than the memory
        (only(replace(HOST, cores=0), read=GB), 1 / 16),
        # The second of two sockets adds 35 %, and each has half of what is named.
        (only(replace(HOST, sockets=2), read=1.35 * GB), 2 / (0.7 * 80)),
    ],
)
def test_what_a_token_costs(what: Stage, seconds: float) -> None:
    assert math.isclose(token_seconds([what], 2000, ROUND), seconds, rel_tol=1e-9)
    assert math.isclose(token_seconds([what, what], 2000, ROUND), 2 * seconds, rel_tol=1e-9)


def attending(processor: Processor, *, kv: float = 0.0, attention: Attention) -> Stage:
    return replace(only(processor, kv=kv), attention=attention)


# heads of 100 values: 400 FLOPs for each cached token; 10 ns of one of 16 cores where it was measured
MEASURED = replace(HOST, attention_rates=tuple((f"F16 {size}", 10**8) for size in (64, 128)))
FAR = (*MEASURED.attention_rates, *((f"F16 {size} far", 4 * 10**6) for size in (64, 128)))
HEADS = Attention(per_depth=400 * 32, head_size=100)


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        (attending(MEASURED, attention=HEADS), 32 * 2000 * 10e-9 / 16),
        # 8 heads of the cache, 400 bytes of F16 each: 240 ns more for each
        (
            attending(replace(MEASURED, attention_rates=FAR), kv=8 * 400, attention=HEADS),
            (32 * 10e-9 + 8 * 240e-9) * 2000 / 16,
        ),
        # not faster than the memory: 70 % of 80 GB/s
        (
            attending(
                replace(MEASURED, cores=10**6, attention_rates=FAR),
                kv=GB,
                attention=Attention(head_size=100),
            ),
            2000 / (0.7 * 80),
        ),
        (attending(MEASURED, attention=Attention(windowed=400e6, head_size=100)), 1e6 * 10e-9 / 16),
        (
            attending(MEASURED, attention=Attention(windowed=400e6, window=8000, head_size=100)),
            0.25e6 * 10e-9 / 16,
        ),
        (replace(only(HOST), whole_layers=10), 10 * WHOLE_LAYER_S),
    ],
)  # fmt: skip
def test_what_attention_costs_on_a_host(what: Stage, seconds: float) -> None:
    assert math.isclose(token_seconds([what], 2000, ROUND), seconds, rel_tol=1e-6)
