"""Compare what an answer costs here with what it costs at an API. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.gateway.fallback_config import Prices

_JOULES_PER_KWH = 3.6e6
_MONTH_S = 30 * 24 * 3600.0
_MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number, and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostInputs:
    prompt_tokens: int  # new ones, of one request
    cached_tokens: int
    answer_tokens: int
    prefill: Figure  # tokens/s
    decode: Figure  # tokens/s
    watts: Figure | None
    kwh_price: Figure  # dollars
    hardware: Figure | None  # dollars
    years: Figure
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    seconds: float  # of one request, here
    most_requests: float  # a month, one after the other
    electricity: float | None  # dollars for a request; None: watts are not known
    hardware_month: float | None  # dollars a month
    api: float  # dollars for a request
    per_million_here: float | None  # dollars for a million tokens of answers, electricity only
    per_million_api: float
    break_even: float | None  # requests a month; None: never, or not known
    verdict: str


def compare(given: CostInputs) -> Costs:
    seconds = given.prompt_tokens / given.prefill.value + given.answer_tokens / given.decode.value
    api = given.prices.of(
        given.prompt_tokens + given.cached_tokens, given.answer_tokens, cached_tokens=given.cached_tokens
    )
    electricity = None
    if given.watts is not None:
        electricity = seconds * given.watts.value / _JOULES_PER_KWH * given.kwh_price.value
    hardware = None if given.hardware is None else given.hardware.value / (given.years.value * 12)
    scale = _MILLION / given.answer_tokens
    most = _MONTH_S / seconds
    break_even, verdict = _break_even(api, electricity, hardware, most)
    return Costs(
        seconds=seconds,
        most_requests=most,
        electricity=electricity,
        hardware_month=hardware,
        api=api,
        per_million_here=None if electricity is None else electricity * scale,
        per_million_api=api * scale,
        break_even=break_even,
        verdict=verdict,
    )


def _break_even(
    api: float, electricity: float | None, hardware: float | None, most: float
) -> tuple[float | None, str]:
    if electricity is None:
        return None, "not known without watts: --watts N"
    if electricity >= api:
        return None, "the API: electricity alone costs more than its answers"
    if hardware is None:
        return 0.0, "here, if the hardware is there anyway (its price was not counted: --hardware DOLLARS)"
    requests = hardware / (api - electricity)
    if requests > most:
        return (
            None,
            f"the API: {requests:,.0f} requests a month would pay it off, {most:,.0f} can be answered",
        )
    return requests, f"here from {requests:,.0f} requests a month on, of {most:,.0f} that can be answered"
