"""The regression gate, on measurements as values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.commands.bench.compare import against_baseline, side_by_side
from launcher.plan.forecast.benched import Benched, Samples, Speed
from tests.plan.forecast.test_measured import benched


def three(rate: float) -> Samples:
    return Samples(rates=(rate, rate * 1.01, rate * 1.02))


def measured(prompt: float, reply: float) -> Benched:
    speed = Speed(depth=0, prompt=three(prompt), reply=three(reply))
    return replace(benched(0), speeds=(speed,))


@pytest.mark.parametrize(
    ("prompt", "reply", "slower"),
    [(100, 10, ()), (120, 11, ()), (90, 10, ("prompt, llama-bench",)), (120, 9, ("reply, llama-bench",))],
)
def test_a_gate_closes_on_what_is_slower(prompt: float, reply: float, slower: tuple[str, ...]) -> None:
    gate = against_baseline(measured(prompt, reply), measured(100, 10))
    assert tuple(row.what for row in gate.slower) == slower
    assert gate.is_slower is bool(slower)


def test_other_prompts_are_not_compared() -> None:
    longer = replace(measured(100, 10), prompt_tokens=2048)
    assert tuple(side_by_side(longer, measured(100, 10))) == ()
