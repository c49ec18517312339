"""Write the gateway's figures as Prometheus reads them, under names that dashboards of the field use.

`prompt_tokens_total`, `tokens_predicted_total` and `requests_processing` are llama-server's
(tools/server/server-context.cpp), `time_to_first_token_seconds` and `e2e_request_latency_seconds` vLLM's.
"""

from __future__ import annotations

from collections.abc import Iterable

from launcher.gateway.admission.state import Phase
from launcher.gateway.keeper import Keeper
from launcher.gateway.proxy import Proxy
from launcher.gateway.status import BUCKETS_S, Counters, Histogram

Samples = Iterable[tuple[str, float]]


def metrics_text(keeper: Keeper, proxy: Proxy, counters: Counters) -> str:
    state = keeper.state
    lines: list[str] = []

    def metric(name: str, kind: str, about: str, samples: Samples) -> None:
        lines.append(f"# HELP launcher_{name} {about}")
        lines.append(f"# TYPE launcher_{name} {kind}")
        lines.extend(f"launcher_{name}{labels} {_number(value)}" for labels, value in samples)

    def of_models(field: str) -> Samples:
        return [(_labels(model=name), getattr(each, field)) for name, each in counters.by_model.items()]

    metric("requests_total", "counter", "Requests answered.", of_models("requests"))
    metric("requests_failed_total", "counter", "Of them with an error.", of_models("failed"))
    metric("prompt_tokens_total", "counter", "Tokens of prompts.", of_models("prompt_tokens"))
    metric("tokens_predicted_total", "counter", "Tokens of answers.", of_models("answer_tokens"))
    metric("loads_total", "counter", "Models loaded since the start.", [("", keeper.n_loads)])
    metric("requests_waiting", "gauge", "Requests that wait for a model.", [("", len(state.waiting))])
    metric("requests_processing", "gauge", "Requests under way.", [("", len(proxy.exchanges))])
    metric("wait_seconds_total", "counter", "Seconds that requests waited.", [("", counters.waited_s)])
    models = state.models.items()
    loaded = [(_labels(model=name), float(each.phase is Phase.READY)) for name, each in models]
    metric("model_loaded", "gauge", "1 if the model is loaded.", loaded)
    failed = [(_labels(model=name), float(each.failure is not None)) for name, each in models]
    metric("model_failed", "gauge", "1 if its last load failed.", failed)
    metric("memory_capacity_bytes", "gauge", "What models may hold.", _by_place(state.capacity.items()))
    metric("memory_held_bytes", "gauge", "What models hold.", _by_place(state.held().items()))
    metric("memory_free_bytes", "gauge", "Free as last seen.", _by_place(keeper.free.items()))
    spending = None if proxy.fallback is None else proxy.fallback.spending
    spent = [(_labels(model=each.key), spending.spent(each.key)) for each in keeper.catalogue
             if spending is not None and each.config.fallback is not None]  # fmt: skip
    metric("fallback_dollars", "gauge", "What APIs elsewhere have cost this month.", spent)
    usage = counters.by_key.items()
    metric("key_requests_total", "counter", "By key.", [(_labels(key=n), u.requests) for n, u in usage])
    tokens = [(_labels(key=n), u.prompt_tokens + u.answer_tokens) for n, u in usage]
    metric("key_tokens_total", "counter", "Tokens by key.", tokens)
    for name, about, by_model in (
        ("time_to_first_token_seconds", "From a request's arrival to its first token.", counters.first_token),
        ("e2e_request_latency_seconds", "From a request's arrival to its end.", counters.whole),
    ):
        lines.extend([f"# HELP launcher_{name} {about}", f"# TYPE launcher_{name} histogram"])
        for model, histogram in by_model.items():
            lines.extend(_histogram(f"launcher_{name}", model, histogram))
    return "\n".join(lines) + "\n"


def _histogram(name: str, model: str, histogram: Histogram) -> list[str]:
    total, lines = 0, []
    for limit, n in zip([*BUCKETS_S, "+Inf"], histogram.counts, strict=True):
        total += n
        lines.append(f"{name}_bucket{_labels(model=model, le=str(limit))} {total}")
    sums = _labels(model=model)
    return [*lines, f"{name}_sum{sums} {_number(histogram.total_s)}", f"{name}_count{sums} {total}"]


def _by_place(figures: Iterable[tuple[str, int]]) -> Samples:
    return [(_labels(place=place), n_bytes) for place, n_bytes in figures]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def _labels(**pairs: str) -> str:
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, value in pairs.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
