"""Seconds for a prompt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from launcher.plan.forecast.decode import Stage
from launcher.plan.forecast.prefill import prompt_seconds
from launcher.plan.forecast.processors import GB, Processor
from tests.plan.forecast.stages import CARD, HOST, stage


def test_a_larger_ubatch_sends_host_weights_less_often() -> None:
    stages = [stage(CARD, 1e9, streamed=100e9), stage(HOST, 5e9, streamed=100e9)]
    assert prompt_seconds(stages, 4096, 4096, 0) < prompt_seconds(stages, 4096, 512, 0) / 4


def only(
    processor: Processor,
    *,
    n_layers: float = 0,
    held: float = 0,
    flops: float = 0,
    kv: float = 0,
    streamed: float = 0,
) -> Stage:
    """A stage that costs nothing but what is given."""
    return Stage(
        processor=processor,
        n_layers=n_layers,
        read_bytes=0,
        held_bytes=held,
        flops=flops,
        kv_bytes=kv,
        streamed_bytes=streamed,
    )


SLOW_LINK = replace(CARD, link=10 * GB)


# CARD: 100 TFLOPS of which 10 % are reached, 1000 GB/s of which 70 % for weights, a link of 25 GB/s.
@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        (only(CARD, flops=10e9), 1000 / 1000),  # 1000 tokens
        (only(CARD, held=700 * GB), 2),  # once a batch of 512
        (only(CARD, kv=GB), 2 * (3000 + 500) / 1000),  # in the middle of the prompt, after 3000 tokens
        (only(CARD, n_layers=50), 2 * 50 * 60e-6),
        (only(CARD, streamed=15 * GB), 2),  # 60 % of the link
        (only(SLOW_LINK, streamed=6 * GB), 2),
        (only(replace(CARD, link=50 * GB), streamed=22 * GB), 2),  # no more than 22 GB/s
        (only(replace(CARD, link=None), streamed=22 * GB), 2),  # through the memory itself
        (only(HOST, flops=1e9), 1),
        (only(HOST, flops=1e9, held=10 * GB, streamed=10 * GB), 0),  # a device computes with all of it
        (only(HOST, flops=1e9, held=10 * GB, streamed=20 * GB), 0),
        (only(HOST, flops=1e9, streamed=20 * GB), 1),
    ],
)
def test_what_a_prompt_costs(what: Stage, seconds: float) -> None:
    assert math.isclose(prompt_seconds([what], 1000, 512, 3000), seconds, abs_tol=1e-12)
    assert math.isclose(prompt_seconds([what, what], 1000, 512, 3000), 2 * seconds, abs_tol=1e-12)


def test_of_weights_that_are_partly_sent_the_host_computes_with_the_rest() -> None:
    whole = prompt_seconds([only(HOST, flops=1e9, held=10 * GB)], 1000, 512, 0)
    part = prompt_seconds([only(HOST, flops=1e9, held=10 * GB, streamed=4 * GB)], 1000, 512, 0)
    assert math.isclose(part, 0.6 * whole)


@pytest.mark.parametrize("ubatch", [32, 512])
def test_weights_are_sent_from_32_tokens_on(ubatch: int) -> None:
    streamed = only(CARD, streamed=15 * GB)
    assert prompt_seconds([streamed], 31, ubatch, 0) == 0
    assert math.isclose(prompt_seconds([streamed], 32, ubatch, 0), 1)
    assert prompt_seconds([streamed], 32, 31, 0) == 0
    host = only(HOST, flops=1e9, held=GB, streamed=GB)
    assert prompt_seconds([host], 31, ubatch, 0) > prompt_seconds([host], 32, ubatch, 0) == 0
