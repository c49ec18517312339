"""Bands of a forecast, and a context too small for the turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.plan.forecast.decode import Stage, token_seconds
from launcher.plan.forecast.factors import LAWS
from launcher.plan.forecast.prefill import Prompt, prompt_seconds
from launcher.plan.forecast.turn import GUESS_BAND, SEVERAL_BAND, Band, Turn, forecast_turn
from tests.plan.forecast.stages import CARD, HOST, stage

BANDS = LAWS.bands


def test_a_band_widens_for_what_is_guessed() -> None:
    known = forecast_turn([stage(CARD, 1e9)], Turn(), 512)
    guess = forecast_turn([stage(replace(CARD, known=False), 1e9)], Turn(), 512)
    assert round(guess.decode.high / guess.decode.mid, 6) == GUESS_BAND
    assert guess.decode.low < known.decode.low
    assert known.turn_seconds.low < known.turn_seconds.mid < known.turn_seconds.high


def test_a_turn_is_made_to_fit_a_small_context() -> None:
    small = Turn().within(4096)
    assert small.cached_tokens + small.prompt_tokens + small.reply_tokens <= 4096
    assert Turn().within(32768) == Turn()


def spread(band: Band) -> tuple[float, float]:
    return round(band.mid / band.low, 6), round(band.high / band.mid, 6)


@pytest.mark.parametrize(
    ("stages", "decode", "prefill"),
    [
        ([stage(CARD, 1e9)], BANDS.decode, BANDS.prefill),
        ([stage(CARD, 1e9), stage(HOST, 1e9)], BANDS.host_decode, max(BANDS.host_decode, BANDS.host_prefill)),
        ([stage(CARD, 1e9), stage(HOST, 0)], BANDS.decode, BANDS.prefill),  # a host that reads nothing
        ([stage(replace(CARD, known=False), 1e9)], GUESS_BAND, GUESS_BAND),
        ([stage(CARD, 1e9), stage(replace(CARD, name="CUDA1"), 1e9)], SEVERAL_BAND, SEVERAL_BAND),
        ([stage(CARD, 1e9), stage(CARD, 0)], BANDS.decode, BANDS.prefill),
        ([stage(CARD, 1e9), stage(replace(HOST, known=False), 0)], BANDS.decode, BANDS.prefill),
    ],
)
def test_bands_are_as_wide_as_the_slowest_part_is_unsure(
    stages: list[Stage], decode: float, prefill: float
) -> None:
    found = forecast_turn(stages, Turn(), 512)
    assert spread(found.decode) == (decode, decode)
    assert spread(found.prefill) == (prefill, prefill)
    named = [name for sentence in found.assumptions for name in sentence.split(":")[0].split(", ")]
    assert named == list(dict.fromkeys(each.processor.name for each in stages if each.read_bytes > 0))
    if len(named) == 1:
        assert found.assumptions == (f"CUDA0: 1000 GB/s, {stages[0].processor.source}",)


def test_a_turn_is_its_prompt_and_then_its_reply_at_the_depth_in_between() -> None:
    stages = [stage(CARD, 1e9)]
    found = forecast_turn(stages, Turn(cached_tokens=1000, prompt_tokens=600, reply_tokens=300), 512)
    token, prompt = (
        token_seconds(stages, 1750),
        prompt_seconds(stages, Prompt(n_tokens=600, ubatch=512, depth=1000)),
    )
    assert found.decode.mid == 1 / token
    assert found.prefill.mid == 600 / prompt
    reply = 300 * token
    assert found.turn_seconds == Band(
        low=prompt / BANDS.prefill + reply / BANDS.decode,
        mid=prompt + reply,
        high=prompt * BANDS.prefill + reply * BANDS.decode,
    )


@pytest.mark.parametrize(
    ("ctx_size", "expected"),
    [(8704, (6144, 2048, 512)), (8703, (6143, 2047, 511)), (4352, (3072, 1024, 256)), (1, (0, 1, 1))],
)
def test_a_turn_is_cut_in_proportion(ctx_size: int, expected: tuple[int, int, int]) -> None:
    cut = Turn().within(ctx_size)
    assert (cut.cached_tokens, cut.prompt_tokens, cut.reply_tokens) == expected
