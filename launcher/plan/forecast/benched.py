"""Hold what `launcher bench` has measured, as a value and as JSON. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher.gguf.model import ModelFile
from launcher.plan.forecast.subject import Subject, parse_subject
from launcher.plan.forecast.turn import Band
from launcher.system.json_object import JsonObject, parse_document

SCHEMA = 2
_MOST_SAMPLES = 64
_MOST_SPEEDS = 64
_LEAST_RATE, _MOST_RATE = 1e-6, 1e9  # tokens/s: what is divided by one is a number yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Tokens/s of one test, repeated."""

    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def low(self) -> float:
        return min(self.rates)

    @property
    def high(self) -> float:
        return max(self.rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speeds after `depth` cached tokens: by llama-bench, through the HTTP API, and forecast."""

    depth: int
    prompt: Samples | None
    reply: Samples | None
    api_prompt: Samples | None = None
    api_reply: Samples | None = None
    forecast_prompt: Band | None = None
    forecast_reply: Band | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benched:
    """The measurement of one command line on one machine with one engine."""

    subject: Subject
    basis: str  # of the forecast that it was compared with: another one makes other ratios
    line: tuple[str, ...]  # what decides the speed, of llama-server's words
    processors: tuple[str, ...]  # those that compute
    prompt_tokens: int
    reply_tokens: int
    argv: tuple[str, ...]  # of llama-bench
    speeds: tuple[Speed, ...]

    def is_of(self, model: ModelFile, line: Sequence[str]) -> bool:
        """Tell if this command line of this model was measured, whatever the model is called."""
        return self.subject.is_model(model) and self.line == tuple(line)


def benched_json(benched: Benched) -> dict[str, Any]:
    """Return the measurement as versioned JSON."""
    document = asdict(benched)
    subject = document.pop("subject")
    speeds = [
        {
            "depth": speed.depth,
            **{name: _samples_json(getattr(speed, name)) for name in _SAMPLES},
            **{name: None if (band := getattr(speed, name)) is None else asdict(band) for name in _BANDS},
        }
        for speed in benched.speeds
    ]
    lists = {name: list(getattr(benched, name)) for name in ("line", "processors", "argv")}
    return {"schema": SCHEMA, **subject, **document, **lists, "speeds": speeds}


def parse_benched(text: str | bytes) -> Benched:
    """Return what `benched_json` wrote. Raises Malformed."""
    given = parse_document(text, SCHEMA)
    speeds = given.objects_at("speeds")
    if len(speeds) > _MOST_SPEEDS:
        raise given.malformed("speeds", f"has more than {_MOST_SPEEDS} depths")
    return Benched(
        subject=parse_subject(given),
        basis=given.text("basis"),
        line=given.texts("line"),
        processors=given.texts("processors"),
        prompt_tokens=given.whole("prompt_tokens", 1),
        reply_tokens=given.whole("reply_tokens", 1),
        argv=given.texts("argv"),
        speeds=tuple(_speed(each) for each in speeds),
    )


_SAMPLES = ("prompt", "reply", "api_prompt", "api_reply")
_BANDS = ("forecast_prompt", "forecast_reply")


def _samples_json(samples: Samples | None) -> dict[str, Any] | None:
    if samples is None:
        return None
    return {"median": samples.median, "low": samples.low, "high": samples.high, "rates": list(samples.rates)}


def _speed(given: JsonObject) -> Speed:
    samples = {name: _samples(given, name) for name in _SAMPLES}
    bands = {name: _band(given, name) for name in _BANDS}
    return Speed(
        depth=given.whole("depth", 0, 1 << 24),
        prompt=samples["prompt"],
        reply=samples["reply"],
        api_prompt=samples["api_prompt"],
        api_reply=samples["api_reply"],
        forecast_prompt=bands["forecast_prompt"],
        forecast_reply=bands["forecast_reply"],
    )


def _samples(given: JsonObject, name: str) -> Samples | None:
    if not given.has(name):
        return None
    inner = given.object_at(name)
    rates = inner.list_at("rates")
    numbers = tuple(
        float(rate)
        for rate in rates
        if isinstance(rate, int | float) and type(rate) is not bool and _LEAST_RATE < rate < _MOST_RATE
    )
    if not numbers or len(numbers) != len(rates) or len(numbers) > _MOST_SAMPLES:
        raise inner.malformed("rates", f"is not a list of 1 to {_MOST_SAMPLES} rates")
    return Samples(rates=numbers)


def _band(given: JsonObject, name: str) -> Band | None:
    if not given.has(name):
        return None
    inner = given.object_at(name)
    low, mid, high = (inner.number(key) for key in ("low", "mid", "high"))
    if not _LEAST_RATE < low <= mid <= high < _MOST_RATE:
        raise inner.malformed("mid", "is not within its band")
    return Band(low=low, mid=mid, high=high)
