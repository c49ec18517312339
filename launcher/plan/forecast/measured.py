"""Put what was measured in the place of a forecast, and correct forecasts of what is like it. Pure.

Measured speeds of a command line take the place of its forecast; between and beyond the measured depths the
forecast's own shape is kept. Other command lines of the same architecture, engine and machine, with the same
processors computing, are scaled by measured over forecast.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from launcher.machine.machine import Machine, SpeedRatio
from launcher.machine.rig import Rig, is_same
from launcher.plan.forecast.benched import Benched, Samples, Speed
from launcher.plan.forecast.decode import Stage
from launcher.plan.forecast.factors import CORE_RATE, IK_LAWS, LAWS, WHOLE_LAYER_S, Laws
from launcher.plan.forecast.turn import Band, Forecast, Turn, forecast_turn

# A neighbour is never scaled by more than this, up or down: what differs more is not like it.
MOST_RATIO = 2.0
# Least half-width of a measured band: a plan on the same machine an hour later differs by as much.
_LEAST_SPREAD = 1.05


def basis_of(machine: Machine) -> str:
    """Name what forecasts rest on beside the plan: ratios of one basis say nothing about another."""
    links = [device.link.rate for device in machine.devices if device.link]
    cores = (machine.node_rates, machine.core_rates, machine.attention_rates)
    measured = (machine.ram_read_rate, machine.ram_bandwidth, *cores, links)
    rests_on = f"{LAWS} {IK_LAWS} {CORE_RATE} {WHOLE_LAYER_S} {measured}"
    return hashlib.sha256(rests_on.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Like:
    """What has to be the same for a measurement to say something about a plan."""

    rig: Rig
    family: str
    basis: str
    engine: str | None = None  # None: any

    def holds(self, benched: Benched) -> bool:
        return (
            is_same(benched.subject.rig, self.rig)
            and (benched.subject.family, benched.basis) == (self.family, self.basis)
            and self.engine in {None, benched.subject.engine}
        )


def ratios_of(measured: Iterable[Benched], like: Like) -> tuple[SpeedRatio, ...]:
    """Return measured over forecast for each set of processors, the latest measurement of each line."""
    latest = {
        (each.subject.model_id, each.subject.quant, each.line): each for each in measured if like.holds(each)
    }
    by_processors: dict[tuple[str, ...], list[Benched]] = {}
    for benched in latest.values():
        by_processors.setdefault(benched.processors, []).append(benched)
    return tuple(
        ratio
        for processors, group in by_processors.items()
        if (ratio := _ratio(processors, group)) is not None
    )


def _ratio(processors: tuple[str, ...], group: Sequence[Benched]) -> SpeedRatio | None:
    speeds = [speed for benched in group for speed in benched.speeds]
    decode = [over for speed in speeds if (over := _over(speed.reply, speed.forecast_reply))]
    prefill = [over for speed in speeds if (over := _over(speed.prompt, speed.forecast_prompt))]
    if not decode or not prefill:
        return None
    newest = max((benched.subject for benched in group), key=lambda subject: subject.date)
    return SpeedRatio(
        processors=processors,
        decode=_bounded(decode),
        prefill=_bounded(prefill),
        why=f"{newest.model_id} {newest.quant} was measured on {newest.date}",
    )


def _over(measured: Samples | None, forecast: Band | None) -> float | None:
    return None if measured is None or forecast is None else measured.median / forecast.mid


def _bounded(ratios: Sequence[float]) -> float:
    middle = statistics.geometric_mean(ratios)
    return min(max(middle, 1 / MOST_RATIO), MOST_RATIO)


def scaled(forecast: Forecast, stages: Sequence[Stage], ratios: Iterable[SpeedRatio]) -> Forecast:
    """Scale a forecast by what was measured of its neighbours on the same processors, if anything was."""
    processors = processors_of(stages)
    ratio = next((each for each in ratios if each.processors == processors), None)
    if ratio is None:
        return forecast
    decode, prefill = _times(forecast.decode, ratio.decode), _times(forecast.prefill, ratio.prefill)
    said = f"scaled by {ratio.decode:.2f}, prompts by {ratio.prefill:.2f}: {ratio.why}"
    return _with_speeds(forecast, decode, prefill, (*forecast.assumptions, said))


def processors_of(stages: Sequence[Stage]) -> tuple[str, ...]:
    """Return the names of the processors that compute."""
    return tuple(stage.processor.name for stage in stages if stage.read_bytes)


def as_measured(
    forecast: Forecast,
    base: Callable[[int, int], Forecast],
    benched: Benched,
    *,
    at_depth: int | None = None,
) -> Forecast:
    """Put measured speeds in the place of an unscaled forecast, of whose turn or `at_depth`.

    `base` predicts for (depth, prompt tokens).
    """
    decode = _curve(benched, base, lambda speed: speed.api_reply or speed.reply, lambda at: at.decode)
    prefill = _curve(benched, base, lambda speed: speed.api_prompt or speed.prompt, lambda at: at.prefill)
    turn = forecast.turn
    if not decode or not prefill:
        return forecast
    replies = _at(decode, turn.depth_of_reply if at_depth is None else at_depth)
    prompts = _at(prefill, turn.cached_tokens)
    return replace(
        _with_speeds(
            forecast,
            _replaced(forecast.decode, replies),
            _replaced(forecast.prefill, prompts),
            (f"measured on {benched.subject.date}", *forecast.assumptions),
        ),
        measured=benched.subject.date,
    )


def base_of(stages: Sequence[Stage], ubatch: int, laws: Laws = LAWS) -> Callable[[int, int], Forecast]:
    """Return the forecast of these stages by (depth, prompt tokens)."""

    def base(depth: int, prompt: int) -> Forecast:
        turn = Turn(cached_tokens=depth, prompt_tokens=prompt, reply_tokens=1)
        return forecast_turn(stages, turn, ubatch, at_depth=depth, laws=laws)

    return base


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ratio:
    """Measured over forecast at a depth, and how far the measurement was off itself."""

    depth: int
    ratio: float
    spread: float
    is_beyond: bool = False  # deeper than anything measured


def _curve(
    benched: Benched,
    base: Callable[[int, int], Forecast],
    measured: Callable[[Speed], Samples | None],
    predicted: Callable[[Forecast], Band],
) -> tuple[_Ratio, ...]:
    curve = []
    for speed in sorted(benched.speeds, key=lambda each: each.depth):
        samples = measured(speed)
        if samples is not None:
            mid = predicted(base(speed.depth, benched.prompt_tokens)).mid
            spread = max(samples.high / samples.median, samples.median / samples.low, _LEAST_SPREAD)
            curve.append(_Ratio(depth=speed.depth, ratio=samples.median / mid, spread=spread))
    return tuple(curve)


def _at(curve: Sequence[_Ratio], depth: int) -> _Ratio:
    """Interpolate between measured depths; beyond them the nearest counts."""
    below = [each for each in curve if each.depth <= depth]
    above = [each for each in curve if each.depth > depth]
    if not below or not above:
        nearest = below[-1] if below else above[0]
        return replace(nearest, is_beyond=nearest.depth != depth)
    left, right = below[-1], above[0]
    part = (depth - left.depth) / (right.depth - left.depth)
    ratio = left.ratio + part * (right.ratio - left.ratio)
    return _Ratio(depth=depth, ratio=ratio, spread=max(left.spread, right.spread))


def _replaced(band: Band, at: _Ratio) -> Band:
    mid = band.mid * at.ratio
    # Where nothing was measured the shape is the forecast's: half of its doubt is left.
    factor = max(at.spread, math.sqrt(band.high / band.mid)) if at.is_beyond else at.spread
    return Band(low=mid / factor, mid=mid, high=mid * factor)


def _times(band: Band, ratio: float) -> Band:
    return Band(low=band.low * ratio, mid=band.mid * ratio, high=band.high * ratio)


def _with_speeds(forecast: Forecast, decode: Band, prefill: Band, assumptions: tuple[str, ...]) -> Forecast:
    turn = forecast.turn

    def seconds(prompts: float, replies: float) -> float:
        return turn.prompt_tokens / prompts + turn.reply_tokens / replies

    return replace(
        forecast,
        decode=decode,
        prefill=prefill,
        turn_seconds=Band(
            low=seconds(prefill.high, decode.high),
            mid=seconds(prefill.mid, decode.mid),
            high=seconds(prefill.low, decode.low),
        ),
        assumptions=assumptions,
    )
