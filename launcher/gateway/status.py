"""Count what was answered, and say which models are here: /v1/models."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from launcher.gateway.admission.state import Phase
from launcher.gateway.catalogue import Servable
from launcher.gateway.exchange import Exchange
from launcher.gateway.keeper import Keeper

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_MOST_ANSWERED = 50
_SPEED = re.compile(rb'"predicted_per_second":\s?(\d{1,9}(?:\.\d{1,9})?)')


@dataclass(slots=True)
class Usage:
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request that is over; nothing of what it said."""

    at: float  # seconds since 1970
    model: str | None
    asked: str | None  # the deployment that answered: the model's, or a replica
    path: str
    answered_by: str | None  # the host of an API elsewhere
    status: int | None  # None: its client left before an answer began
    seconds: float
    waited_s: float
    first_byte_s: float | None
    prompt_tokens: int
    answer_tokens: int
    tokens_per_s: float | None


@dataclass(slots=True)
class Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


@dataclass(slots=True)
class Counters:
    """What was answered since the gateway began."""

    by_model: dict[str, Usage] = field(default_factory=lambda: defaultdict(Usage))
    by_key: dict[str, Usage] = field(default_factory=lambda: defaultdict(Usage))
    first_token: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    whole: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    waited_s: float = 0.0
    answered: deque[Answered] = field(default_factory=lambda: deque(maxlen=_MOST_ANSWERED))

    def count(self, exchange: Exchange) -> None:
        prompt, answer = exchange.tokens
        failed = exchange.status is None or exchange.status >= 400
        for usage in (self.by_model[exchange.model or ""], self.by_key[exchange.key_name or ""]):
            usage.requests += 1
            usage.failed += failed
            usage.prompt_tokens += prompt
            usage.answer_tokens += answer
        self.waited_s += exchange.waited_s
        if exchange.method != "POST":
            return  # nothing was generated
        self.answered.append(_answered(exchange, prompt, answer))
        if exchange.model is not None and not failed:
            self.whole[exchange.model].add(time.monotonic() - exchange.began)
            if exchange.first_byte_s is not None:
                self.first_token[exchange.model].add(exchange.first_byte_s)


def tokens_per_s(exchange: Exchange, seconds: float, n_tokens: int) -> float | None:
    """Return the speed of an answer: the engine's own figure, else its tokens or events by time."""
    said = _SPEED.findall(exchange.tail)
    if said:
        return float(said[-1])
    took = seconds - (exchange.first_byte_s or 0.0)
    n_tokens = n_tokens or exchange.n_events
    return None if exchange.first_byte_s is None or n_tokens < 2 or took <= 0 else (n_tokens - 1) / took


def _answered(exchange: Exchange, prompt: int, answer: int) -> Answered:
    seconds = time.monotonic() - exchange.began
    return Answered(
        at=time.time(),
        model=exchange.model,
        asked=exchange.asked,
        path=exchange.target.decode("latin-1").partition("?")[0],
        answered_by=exchange.answered_by,
        status=exchange.status,
        seconds=seconds,
        waited_s=exchange.waited_s,
        first_byte_s=exchange.first_byte_s,
        prompt_tokens=prompt,
        answer_tokens=answer,
        tokens_per_s=tokens_per_s(exchange, seconds, answer),
    )


def models_json(keeper: Keeper, allowed: frozenset[str] | None) -> dict[str, object]:
    """Return the list of models as OpenAI's API has it, with what else is known of each."""
    return {"object": "list", "data": [model_json(keeper, each) for each in served(keeper, allowed)]}


def served(keeper: Keeper, allowed: frozenset[str] | None) -> Iterable[Servable]:
    return (servable for servable in keeper.catalogue.listed if servable.is_among(allowed))


def model_json(keeper: Keeper, servable: Servable) -> dict[str, object]:
    running = next(iter(keeper.replicas(servable.key)), None)
    model = keeper.state.models.get(servable.key if running is None else running.name)
    ctx_size = None if running is None else running.ctx_size
    return {
        "id": servable.name,
        "object": "model",
        "created": int(servable.used_at or 0),
        "owned_by": "launcher",
        "status": {"value": "unloaded" if model is None else _state_word(model.phase)},
        "source": servable.source,
        "modalities": ["text", "image"] if running is not None and running.sees else ["text"],
        "modes": [mode.name for mode in servable.modes],
        "meta": {
            "size": servable.size_bytes,
            "n_ctx": ctx_size or servable.config.ctx_size,
        },
        "context_length": ctx_size or servable.config.ctx_size,
    }


def _state_word(phase: Phase) -> str:
    # llama-server's router has the words unloaded, loading, loaded
    match phase:
        case Phase.READY:
            return "loaded"
        case Phase.LOADING | Phase.PLANNING:
            return "loading"
        case Phase.STOPPING | Phase.LEAVING:
            return "unloading"
        case _:
            return "unloaded"
