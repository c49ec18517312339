"""The APIs that are known by name: official ones of models in the profiles. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.gateway.fallback_config import FallbackConfig, Prices, Style, When


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOffer:
    url: str
    model: str
    key_env: str
    style: Style
    prices: Prices


# prices: models.dev, providers/moonshotai/models/kimi-k2.5.toml and kimi-k2.6.toml;
# address, names and the thinking switch: MoonshotAI/Kimi-K2.5, README
_MOONSHOT = "https://api.moonshot.ai/v1"
OFFERS: Mapping[str, ApiOffer] = {
    "kimi-k2.5": ApiOffer(
        url=_MOONSHOT, model="kimi-k2.5", key_env="MOONSHOT_API_KEY", style=Style.MOONSHOT,
        prices=Prices(
            prompt=0.60, cached=0.10, answer=3.00, source="models.dev, providers/moonshotai/kimi-k2.5"
        ),
    ),
    "kimi-k2.6": ApiOffer(
        url=_MOONSHOT, model="kimi-k2.6", key_env="MOONSHOT_API_KEY", style=Style.MOONSHOT,
        prices=Prices(
            prompt=0.95, cached=0.16, answer=4.00, source="models.dev, providers/moonshotai/kimi-k2.6"
        ),
    ),
}  # fmt: skip


def config_lines(name: str, offer: ApiOffer, monthly_budget: float) -> str:
    """Return what turns the fallback on in config.toml."""
    prices = offer.prices
    values = {
        "url": offer.url, "model": offer.model, "key-env": offer.key_env, "when": When.UNAVAILABLE.value,
        "style": offer.style.value, "prompt-price": prices.prompt, "cached-price": prices.cached,
        "answer-price": prices.answer, "prices-from": prices.source, "monthly-budget": monthly_budget,
    }  # fmt: skip
    lines = (f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    return f"[models.{json.dumps(name)}.fallback]\n{''.join(lines)}"


def prices_of(name: str, fallback: FallbackConfig | None) -> tuple[Prices, str] | None:
    """Return what an answer of this model costs elsewhere, and where; the owner's own figures first."""
    if fallback is not None:
        return fallback.prices, f"{fallback.model} at {fallback.host}"
    offer = OFFERS.get(name)
    return None if offer is None else (offer.prices, f"{offer.model} at {offer.url}")
