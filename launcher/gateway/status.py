"""Count what was answered, and say which models are here: /v1/models, Prometheus metrics."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from launcher.gateway.admission.state import Phase
from launcher.gateway.catalogue import Servable
from launcher.gateway.exchange import Exchange
from launcher.gateway.keeper import Keeper

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_MOST_ANSWERED = 50
_SPEED = re.compile(rb'"predicted_per_second":\s?(\d+(?:\.\d+)?)')


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
    path: str
    status: int | None  # None: its client left before an answer began
    seconds: float
    waited_s: float
    first_byte_s: float | None
    prompt_tokens: int
    answer_tokens: int
    tokens_per_s: float | None


@dataclass(slots=True)
class Counters:
    """What was answered since the gateway began."""

    by_model: dict[str, Usage] = field(default_factory=lambda: defaultdict(Usage))
    by_key: dict[str, Usage] = field(default_factory=lambda: defaultdict(Usage))
    first_byte: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))
    first_byte_s: float = 0.0
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
        self.answered.append(_answered(exchange))
        if exchange.first_byte_s is not None:
            took = exchange.first_byte_s
            self.first_byte_s += took
            at = next((i for i, limit in enumerate(_BUCKETS) if took <= limit), len(_BUCKETS))
            self.first_byte[at] += 1


def tokens_per_s(exchange: Exchange, seconds: float) -> float | None:
    """Return the speed of an answer: the engine's own figure, else its tokens or events by time."""
    said = _SPEED.findall(exchange.tail)
    if said:
        return float(said[-1])
    took = seconds - (exchange.first_byte_s or 0.0)
    n_tokens = exchange.tokens[1] or exchange.n_events
    return None if exchange.first_byte_s is None or n_tokens < 2 or took <= 0 else (n_tokens - 1) / took


def _answered(exchange: Exchange) -> Answered:
    seconds = time.monotonic() - exchange.began
    prompt, answer = exchange.tokens
    return Answered(
        at=time.time(),
        model=exchange.model,
        path=exchange.target.decode("latin-1").partition("?")[0],
        status=exchange.status,
        seconds=seconds,
        waited_s=exchange.waited_s,
        first_byte_s=exchange.first_byte_s,
        prompt_tokens=prompt,
        answer_tokens=answer,
        tokens_per_s=tokens_per_s(exchange, seconds),
    )


def models_json(keeper: Keeper, allowed: frozenset[str] | None) -> dict[str, object]:
    """Return the list of models as OpenAI's API has it, with what else is known of each."""
    return {"object": "list", "data": [model_json(keeper, each) for each in served(keeper, allowed)]}


def served(keeper: Keeper, allowed: frozenset[str] | None) -> Iterable[Servable]:
    for servable in keeper.catalogue:
        if allowed is None or {servable.name, servable.key} & allowed:
            yield servable


def model_json(keeper: Keeper, servable: Servable) -> dict[str, object]:
    running = keeper.running.get(servable.key)
    model = keeper.state.models.get(servable.key)
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


def metrics_text(keeper: Keeper, counters: Counters, n_under_way: int) -> str:
    """Return the figures as Prometheus reads them."""
    state = keeper.state
    lines: list[str] = []

    def metric(name: str, kind: str, samples: Iterable[tuple[str, float]]) -> None:
        lines.append(f"# TYPE launcher_{name} {kind}")
        lines.extend(f"launcher_{name}{labels} {value:g}" for labels, value in samples)

    def of_models(field_name: str) -> list[tuple[str, float]]:
        return [
            (_label("model", name), getattr(each, field_name)) for name, each in counters.by_model.items()
        ]

    metric("requests_total", "counter", of_models("requests"))
    metric("requests_failed_total", "counter", of_models("failed"))
    metric("prompt_tokens_total", "counter", of_models("prompt_tokens"))
    metric("tokens_predicted_total", "counter", of_models("answer_tokens"))
    metric("loads_total", "counter", [("", keeper.n_loads)])
    metric("requests_waiting", "gauge", [("", len(state.waiting))])
    metric("requests_processing", "gauge", [("", n_under_way)])
    metric("wait_seconds_total", "counter", [("", counters.waited_s)])
    models = state.models.items()
    metric("model_loaded", "gauge", [(_label("model", n), m.phase is Phase.READY) for n, m in models])
    metric("memory_capacity_bytes", "gauge", [(_label("place", p), n) for p, n in state.capacity.items()])
    metric("memory_held_bytes", "gauge", [(_label("place", p), n) for p, n in state.held().items()])
    key_usage = counters.by_key.items()
    metric("key_requests_total", "counter", [(_label("key", n), u.requests) for n, u in key_usage])
    total, buckets = 0, []
    for limit, n in zip([*_BUCKETS, "+Inf"], counters.first_byte, strict=True):
        total += n
        buckets.append((_label("le", str(limit)), float(total)))
    metric("time_to_first_byte_seconds_bucket", "counter", buckets)
    metric("time_to_first_byte_seconds_count", "counter", [("", total)])
    metric("time_to_first_byte_seconds_sum", "counter", [("", counters.first_byte_s)])
    return "\n".join(lines) + "\n"


def _label(name: str, value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{{{name}="{text}"}}'
