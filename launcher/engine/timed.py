"""Time a completion as the client of llama-server sees it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.engine.client import stream_events
from launcher.errors import EngineFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One request as its client saw it."""

    prompt_tokens: int  # computed: those that were not cached
    reply_tokens: int
    first_s: float  # until the first token came
    rest_s: float  # from the first token to the last

    @property
    def prompt_rate(self) -> float | None:
        return self.prompt_tokens / self.first_s if self.prompt_tokens and self.first_s > 0 else None

    @property
    def reply_rate(self) -> float | None:
        return (self.reply_tokens - 1) / self.rest_s if self.reply_tokens > 1 and self.rest_s > 0 else None

    @property
    def seconds(self) -> float:
        return self.first_s + self.rest_s


def time_completion(
    url: str,
    prompt: Sequence[int] | str,
    n_predict: int,
    *,
    cached: bool = True,
    api_key: str | None = None,
) -> Timed:
    """Complete a prompt, from the cache as far as that goes if `cached`. Raises as `generate_token`."""
    body = {
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "n_predict": n_predict,
        "stream": True,
        "cache_prompt": cached,
        "ignore_eos": True,
        "temperature": 0,
    }
    begun = time.monotonic()
    first = last = None
    final: Mapping[str, Any] = {}
    for event in stream_events(url, "/completion", body, api_key):
        if event.get("stop"):
            final = event
            break
        last = time.monotonic()
        first = first or last
    timings = final.get("timings")
    if first is None or last is None or not isinstance(timings, Mapping):
        raise EngineFailed("llama-server answered without producing a token", hint="launcher logs")
    computed, produced = timings.get("prompt_n"), timings.get("predicted_n")
    if not isinstance(computed, int) or not isinstance(produced, int):
        raise EngineFailed("llama-server does not say what it computed", hint="launcher engine list")
    return Timed(prompt_tokens=computed, reply_tokens=produced, first_s=first - begun, rest_s=last - first)
