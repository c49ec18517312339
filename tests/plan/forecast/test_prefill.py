"""Seconds for a prompt."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from launcher.plan.forecast.decode import NO_ATTENTION, Attention, Stage
from launcher.plan.forecast.prefill import Prompt, prompt_seconds
from launcher.plan.forecast.processors import GB, Processor
from tests.plan.forecast.stages import CARD, HOST, ROUND, stage


def test_a_larger_ubatch_sends_host_weights_less_often() -> None:
    stages = [stage(CARD, 1e9, streamed=100e9), stage(HOST, 5e9, streamed=100e9)]
    once, often = (Prompt(n_tokens=4096, ubatch=ubatch, depth=0) for ubatch in (4096, 512))
    assert prompt_seconds(stages, once) < prompt_seconds(stages, often) / 4


def only(
    processor: Processor,
    *,
    n_layers: float = 0,
    held: float = 0,
    flops: float = 0,
    streamed: float = 0,
    attention: Attention = NO_ATTENTION,
    n_embd: int = 0,
    expert_share: float = 1.0,
) -> Stage:
    """A stage that costs nothing but what is given."""
    return Stage(
        processor=processor,
        n_layers=n_layers,
        read_bytes=0,
        held_bytes=held,
        flops=flops,
        kv_bytes=0,
        streamed_bytes=streamed,
        attention=attention,
        n_embd=n_embd,
        expert_share=expert_share,
    )


SLOW_LINK = replace(CARD, link=10 * GB)


def seconds(what: Stage, n_tokens: int, ubatch: int, depth: int = 0) -> float:
    return prompt_seconds([what], Prompt(n_tokens=n_tokens, ubatch=ubatch, depth=depth), ROUND)


# CARD: 100 TFLOPS of which 10 % are reached, 1000 GB/s of which 70 % for weights, a link of 25 GB/s.
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (only(CARD, flops=10e9), 1),  # 1000 tokens
        (only(CARD, held=700 * GB), 2),  # once a batch of 512
        (only(CARD, held=350 * GB, flops=10e9), 1),  # both at once: the longer counts
        (only(CARD, attention=Attention(per_depth=20e9 / 3500)), 1),  # in the middle, after 3000 tokens
        (only(CARD, attention=Attention(per_depth=20e9 / 3500, head_size=64)), 2),  # half the rate
        (only(CARD, attention=Attention(windowed=20e9, head_size=256)), 1),
        (only(CARD, n_layers=50), 2 * 50 * 60e-6),
        (only(CARD, n_layers=50, n_embd=4000), 2 * 50 * 60e-6 + 1000 * 50 * 4000 * 1e-9),
        (only(CARD, streamed=17.5 * GB), 2),  # 70 % of the link
        (only(SLOW_LINK, streamed=7 * GB), 2),
        (only(replace(CARD, link=50 * GB), streamed=22 * GB), 2),  # no more than 22 GB/s
        (only(replace(CARD, link=None), streamed=22 * GB), 2),  # through the memory itself
        (only(HOST, flops=1e8), 1),
        (only(replace(HOST, sockets=2), flops=1.35e8), 2),  # the second socket adds 35 %
        (only(HOST, flops=1e8, held=10 * GB, streamed=10 * GB), 0),  # a device computes with all of it
        (only(HOST, flops=1e8, held=10 * GB, streamed=20 * GB), 0),
        (only(HOST, flops=1e8, streamed=20 * GB), 1),
    ],
)
def test_what_a_prompt_costs(what: Stage, expected: float) -> None:
    assert math.isclose(seconds(what, 1000, 512, 3000), expected, abs_tol=1e-12)


def test_stages_come_one_after_the_other() -> None:
    prompt = Prompt(n_tokens=1000, ubatch=512, depth=0)
    what = only(CARD, flops=10e9)
    assert math.isclose(prompt_seconds([what, what], prompt, ROUND), 2 * seconds(what, 1000, 512))


def test_few_rows_for_an_expert_are_slower() -> None:
    laws = replace(ROUND, few_rows=16.0)
    what = only(CARD, flops=10e9, expert_share=1 / 32)
    whole = prompt_seconds([what], Prompt(n_tokens=512, ubatch=512, depth=0), laws)
    half = prompt_seconds([what], Prompt(n_tokens=512, ubatch=256, depth=0), laws)
    assert math.isclose(whole, 0.512 * 2)  # 16 rows: half of the rate
    assert math.isclose(half, 0.512 * 3)  # 8 rows: a third
    dense = replace(what, expert_share=1.0)
    assert prompt_seconds([dense], Prompt(n_tokens=512, ubatch=512, depth=0), laws) < whole


def test_of_weights_that_are_partly_sent_the_host_computes_with_the_rest() -> None:
    whole = seconds(only(HOST, flops=1e9, held=10 * GB), 1000, 512)
    part = seconds(only(HOST, flops=1e9, held=10 * GB, streamed=4 * GB), 1000, 512)
    assert math.isclose(part, 0.6 * whole)


@pytest.mark.parametrize("ubatch", [32, 512])
def test_weights_are_sent_from_32_tokens_on(ubatch: int) -> None:
    streamed = only(CARD, streamed=17.5 * GB)
    assert seconds(streamed, 31, ubatch) == 0
    assert math.isclose(seconds(streamed, 32, ubatch), 1)
    assert seconds(streamed, 32, 31) == 0
    host = only(HOST, flops=1e9, held=GB, streamed=GB)
    assert seconds(host, 31, ubatch) > seconds(host, 32, ubatch) == 0


def test_a_long_prompt_is_slower_a_token_than_a_short_one() -> None:
    what = only(CARD, flops=1e9, attention=Attention(per_depth=1e6))
    assert seconds(what, 32768, 512) / 32768 > 1.2 * seconds(what, 512, 512) / 512
