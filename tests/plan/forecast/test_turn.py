"""Bands of a forecast, and a context too small for the turn."""

from __future__ import annotations

from dataclasses import replace

from launcher.plan.forecast.turn import GUESS_BAND, Turn, forecast_turn
from tests.plan.forecast.stages import CARD, stage


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
