"""Seconds for a prompt."""

from __future__ import annotations

from launcher.plan.forecast.prefill import prompt_seconds
from tests.plan.forecast.stages import CARD, HOST, stage


def test_a_larger_ubatch_sends_host_weights_less_often() -> None:
    stages = [stage(CARD, 1e9, streamed=100e9), stage(HOST, 5e9, streamed=100e9)]
    assert prompt_seconds(stages, 4096, 4096, 0) < prompt_seconds(stages, 4096, 512, 0) / 4
