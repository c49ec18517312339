"""Measured speeds in the place of forecasts, and what they say about neighbours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from launcher.plan.forecast.benched import Benched, Samples, Speed, benched_json, parse_benched
from launcher.plan.forecast.decode import Stage
from launcher.plan.forecast.measured import MOST_RATIO, Like, as_measured, base_of, ratios_of, scaled
from launcher.plan.forecast.processors import GB, Processor, ProcessorFamily
from launcher.plan.forecast.turn import Forecast, Turn, forecast_turn
from launcher.system.json_object import Malformed
from tests.plan.forecast.subject import SUBJECT

HOST = Processor(name="host", family=ProcessorFamily.HOST, bandwidth=50 * GB, flops=200 * GB, cores=8)
STAGES = (
    Stage(processor=HOST, n_layers=32, read_bytes=4e9, held_bytes=4e9, flops=8e9, kv_bytes=1e5, n_embd=4096),
)
TURN = Turn(cached_tokens=1024, prompt_tokens=512, reply_tokens=128)


def predicted(turn: Turn = TURN) -> Forecast:
    return forecast_turn(STAGES, turn, 512)


def benched(*depths: int, times: float = 0.8) -> Benched:
    """A measurement that is so many times as fast as it was forecast."""
    base = base_of(STAGES, 512)

    def speed(depth: int) -> Speed:
        at = base(depth, 512)
        prompt, reply = at.prefill.mid * times, at.decode.mid * times
        return Speed(
            depth=depth,
            prompt=Samples(rates=(prompt * 0.99, prompt, prompt * 1.01)),
            reply=Samples(rates=(reply * 0.98, reply, reply * 1.02)),
            forecast_prompt=at.prefill,
            forecast_reply=at.decode,
        )

    return Benched(
        subject=SUBJECT,
        basis="b",
        line=("-t", "8"),
        processors=("host",),
        prompt_tokens=512,
        reply_tokens=64,
        argv=("llama-bench",),
        speeds=tuple(speed(depth) for depth in depths),
    )


def test_the_measured_speed_is_said_where_it_was_measured() -> None:
    found = as_measured(predicted(), base_of(STAGES, 512), benched(0, 4096))
    assert found.decode.mid == pytest.approx(predicted().decode.mid * 0.8)
    assert found.turn_seconds.mid == pytest.approx(predicted().turn_seconds.mid / 0.8)
    assert found.measured == "2026-11-30"
    assert found.decode.high / found.decode.mid == pytest.approx(1.05)  # the least that is believed
    assert found.turn_seconds.low < found.turn_seconds.mid < found.turn_seconds.high


def test_beyond_the_measured_depths_half_of_the_doubt_is_left() -> None:
    deep = Turn(cached_tokens=65536, prompt_tokens=512, reply_tokens=128)
    found = as_measured(predicted(deep), base_of(STAGES, 512), benched(0, 4096))
    doubt = predicted(deep).decode.high / predicted(deep).decode.mid
    assert found.decode.high / found.decode.mid == pytest.approx(doubt**0.5)


def test_the_api_s_speed_counts_before_llama_bench_s() -> None:
    alone = benched(0, 4096)
    slower = Samples(rates=(1.0,))
    served = replace(alone, speeds=tuple(replace(speed, api_reply=slower) for speed in alone.speeds))
    at_depth = as_measured(base_of(STAGES, 512)(4096, 512), base_of(STAGES, 512), served, at_depth=4096)
    assert at_depth.decode.mid == pytest.approx(1.0)


LIKE = Like(rig=SUBJECT.rig, family="llama", basis="b", engine="0c1e570")


def test_neighbours_are_scaled_within_bounds_and_say_why() -> None:
    ratios = ratios_of([benched(0)], LIKE)
    found = scaled(predicted(), STAGES, ratios)
    assert found.decode.mid == pytest.approx(predicted().decode.mid * 0.8)
    assert found.decode.high / found.decode.mid == pytest.approx(
        predicted().decode.high / predicted().decode.mid
    )
    assert found.measured is None
    assert "scaled by 0.80" in found.assumptions[-1]
    [ratio] = ratios_of([benched(0, times=9)], LIKE)
    assert ratio.decode == MOST_RATIO


@pytest.mark.parametrize(
    "change",
    [
        {"subject": replace(SUBJECT, family="qwen3moe")},
        {"subject": replace(SUBJECT, engine="another")},
        {"basis": "another"},
        {"subject": replace(SUBJECT, rig=replace(SUBJECT.rig, cpu="another"))},
        {"subject": replace(SUBJECT, rig=replace(SUBJECT.rig, ram_total_bytes=32 << 30))},
        {"subject": replace(SUBJECT, rig=replace(SUBJECT.rig, devices=("a GPU",)))},
        {"processors": ("CUDA0", "host")},
    ],
)
def test_what_is_not_like_it_says_nothing(change: dict[str, object]) -> None:
    other = replace(benched(0), **change)  # type: ignore[arg-type]
    assert scaled(predicted(), STAGES, ratios_of([other], LIKE)) == predicted()


def test_the_latest_measurement_of_a_line_counts() -> None:
    [ratio] = ratios_of([benched(0, times=0.5), benched(0, times=0.9)], LIKE)
    assert ratio.decode == pytest.approx(0.9)


def test_a_measurement_is_read_as_it_was_written() -> None:
    found = benched(0, 4096)
    assert parse_benched(json.dumps(benched_json(found))) == found


@pytest.mark.parametrize(
    ("key", "value"),
    [("schema", 1), ("date", "yesterday"), ("speeds", [{"depth": -1}]), ("rig", {}), ("prompt_tokens", 0)],
)
def test_a_damaged_measurement_is_none(key: str, value: object) -> None:
    document = benched_json(benched(0)) | {key: value}
    with pytest.raises(Malformed):
        parse_benched(json.dumps(document))


@pytest.mark.parametrize("rate", [1e-320, 1e-9, 1e300])
def test_a_damaged_rate_that_would_divide_to_zero_is_malformed(rate: float) -> None:
    document = benched_json(benched(0))
    document["speeds"][0]["reply"]["rates"] = [rate]
    with pytest.raises(Malformed):
        parse_benched(json.dumps(document))
    document = benched_json(benched(0))
    document["speeds"][0]["forecast_reply"] = {"low": rate, "mid": rate, "high": rate}
    with pytest.raises(Malformed):
        parse_benched(json.dumps(document))
