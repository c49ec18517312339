"""Predicted against published speeds: on the rigs the constants were fitted to, and on the others."""

from __future__ import annotations

import statistics

import pytest

from launcher.plan.forecast.decode import token_seconds
from launcher.plan.forecast.prefill import prompt_seconds
from launcher.plan.forecast.turn import DECODE_BAND, HOST_BAND, HOST_PREFILL_BAND, PREFILL_BAND
from tests.plan.forecast.measured import Measured, measured

IK_COMPUTES_ON_HOST_BELOW = 1024
"""ik_llama.cpp leaves small batches of many experts on the host, so their prompt speeds are another law's."""


def decode_ratio(one: Measured) -> float:
    return 1 / token_seconds(one.stages, int(one.row["depth"])) / float(one.row["decode_tps"])


def off(ratio: float) -> float:
    return max(ratio, 1 / ratio)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("on_host", [False, True])
def test_generation_is_within_its_band(split: str, *, on_host: bool) -> None:
    errors = [off(decode_ratio(one)) for one in measured(split) if one.on_host == on_host]
    band = HOST_BAND if on_host else DECODE_BAND
    assert len(errors) >= 9
    assert statistics.median(errors) < (1.25 if on_host else 1.10)
    within = sum(error <= band for error in errors) / len(errors)
    assert within >= 0.9, sorted(errors)


@pytest.mark.parametrize("on_host", [False, True])
def test_prompts_are_within_their_band(*, on_host: bool) -> None:
    errors = []
    for one in measured("test"):
        row = one.row
        if one.on_host != on_host or not (row["prefill_tps"] and row["ubatch"] and row["pp_tokens"]):
            continue
        if row["engine"] == "ik" and int(row["ubatch"]) < IK_COMPUTES_ON_HOST_BELOW:
            continue
        tokens = int(row["pp_tokens"])
        seconds = prompt_seconds(one.stages, tokens, int(row["ubatch"]), int(row["depth"]))
        errors.append(off(tokens / seconds / float(row["prefill_tps"])))
    assert len(errors) >= 6
    assert statistics.median(errors) < 1.4
    assert sum(error <= (HOST_PREFILL_BAND if on_host else PREFILL_BAND) for error in errors) >= 0.9 * len(
        errors
    )


def test_no_rig_is_on_both_sides_of_the_split() -> None:
    train = {one.row["rig"] for one in measured("train")}
    assert train.isdisjoint(one.row["rig"] for one in measured("test"))


def test_experts_on_the_host_slow_generation_down_as_measured() -> None:
    """gpt-oss-20b on an RX 7900 XT with 0, 4, 8, 16 and 24 blocks' experts in DDR4: 94, 60, 38, 26, 20 tokens/s."""
    curve = [one for one in measured("test") if one.row["rig"].startswith("7900xt")]
    predicted = [1 / token_seconds(one.stages, 0) for one in curve]
    assert predicted == sorted(predicted, reverse=True)
    assert all(off(decode_ratio(one)) < 1.2 for one in curve)
