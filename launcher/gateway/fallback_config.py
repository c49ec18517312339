"""Read how a model's requests may go to an API elsewhere, and decide when one does. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from launcher.system.json_object import JsonObject, Malformed

KEYS = {
    "url", "model", "key-env", "key-file", "when", "style", "prompt-price", "cached-price", "answer-price",
    "monthly-budget", "prices-from",
}  # fmt: skip
_MILLION = 1_000_000
_MOST_PRICE, _MOST_BUDGET = 10_000.0, 1e7
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:]{2,45}\]|[a-z0-9.-]{1,253})(?::\d{1,5})?(?:/[A-Za-z0-9._~-]+)*"
)
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}


class When(StrEnum):
    UNAVAILABLE = "when-unavailable"  # it does not fit, cannot be loaded, or the queue is full
    OVERFLOW = "overflow"  # also where the request would have to wait
    ALWAYS = "always"


class Style(StrEnum):
    """How an API is told whether to think."""

    OPENAI = "openai"  # reasoning_effort
    MOONSHOT = "moonshot"  # thinking: {type: enabled | disabled}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Dollars for a million tokens."""

    prompt: float
    answer: float
    cached: float
    source: str = "config.toml"

    def of(self, prompt_tokens: int, answer_tokens: int, cached_tokens: int = 0) -> float:
        cached = min(cached_tokens, prompt_tokens)
        fresh = prompt_tokens - cached
        return (fresh * self.prompt + cached * self.cached + answer_tokens * self.answer) / _MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackConfig:
    """`[models.NAME.fallback]`: the owner has turned it on for this model."""

    url: str
    model: str
    key_env: str | None
    key_file: str | None
    prices: Prices
    monthly_budget: float  # dollars
    when: When = When.UNAVAILABLE
    style: Style = Style.OPENAI

    @property
    def host(self) -> str:
        found = _URL.fullmatch(self.url)
        return "" if found is None else found["host"]


def read_fallback(given: JsonObject) -> FallbackConfig:
    """Return the settings. Raises Malformed; prices and a budget have to be there."""
    url = given.text("url").rstrip("/")
    found = _URL.fullmatch(url)
    if found is None:
        raise given.malformed("url", "an address as https://api.example.com/v1")
    if found["scheme"] != "https" and found["host"] not in _LOOPBACK:
        raise given.malformed("url", "an address that begins with https://")
    if given.has("key-env") == given.has("key-file"):
        raise Malformed("one of key-env and key-file has to be there, and not both")
    prompt = _amount(given, "prompt-price", _MOST_PRICE)
    prices = Prices(
        prompt=prompt,
        answer=_amount(given, "answer-price", _MOST_PRICE),
        cached=_amount(given, "cached-price", _MOST_PRICE) if given.has("cached-price") else prompt,
        source=given.text("prices-from") if given.has("prices-from") else "config.toml",
    )
    return FallbackConfig(
        url=url,
        model=given.text("model"),
        key_env=given.optional_text("key-env"),
        key_file=given.optional_text("key-file"),
        prices=prices,
        monthly_budget=_amount(given, "monthly-budget", _MOST_BUDGET),
        when=given.choice("when", When) if given.has("when") else When.UNAVAILABLE,
        style=given.choice("style", Style) if given.has("style") else Style.OPENAI,
    )


def _amount(given: JsonObject, key: str, most: float) -> float:
    value = given.number(key)
    if not (math.isfinite(value) and 0 <= value <= most):
        raise Malformed(f"{key} is {value}, which is not from 0 to {most:g}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a request may cost at most, and how long its answer may be for that."""

    dollars: float
    answer_tokens: int


def allow(prices: Prices, left: float, prompt_tokens: int, asked_tokens: int) -> Allowance | None:
    """Return what may be spent of what is left of the budget, None if it is too little.

    `prompt_tokens` are the most that the prompt may have; so the budget holds whatever is counted later.
    """
    prompt = prompt_tokens * max(prices.prompt, prices.cached) / _MILLION
    if prompt > left or left <= 0:
        return None
    rest = left - prompt
    tokens = asked_tokens
    if asked_tokens * prices.answer / _MILLION > rest:
        tokens = int(rest * _MILLION / prices.answer)
    if tokens < 1:
        return None
    return Allowance(dollars=prompt + tokens * prices.answer / _MILLION, answer_tokens=tokens)
