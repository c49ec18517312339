"""Say all there is to see of the gateway at once: models, memory, queue, requests, swaps."""

from __future__ import annotations

import time
from dataclasses import asdict

from launcher.gateway.admission.state import HOLDING, Model, Phase, is_group
from launcher.gateway.exchange import Exchange
from launcher.gateway.keeper import Keeper
from launcher.gateway.moments import Change
from launcher.gateway.proxy import Proxy
from launcher.gateway.status import Counters, tokens_per_s

_HINT = " (hint: "


def status_json(keeper: Keeper, proxy: Proxy, counters: Counters) -> dict[str, object]:
    """Return what the page and `ps --watch` show; no prompt, no key."""
    now = time.monotonic()
    return {
        "schema": 1,
        "at": time.time(),
        "models": [
            {**_model(keeper, name, model, now), "fallback": _fallback(keeper, proxy, name)}
            for name, model in keeper.state.models.items()
        ],
        "memory": _memory(keeper),
        "waiting": len(keeper.state.waiting),
        "loads": keeper.n_loads,
        "requests": [_request(keeper, exchange, now) for exchange in tuple(proxy.exchanges.values())],
        "answered": [asdict(each) for each in reversed(counters.answered)],
        "changes": [_change(change) for change in reversed(keeper.moments.changes)],
        "usage": {
            name or "": {
                "requests": each.requests,
                "failed": each.failed,
                "prompt_tokens": each.prompt_tokens,
                "completion_tokens": each.answer_tokens,
            }
            for name, each in counters.by_key.items()
        },
    }


def _model(keeper: Keeper, name: str, model: Model, now: float) -> dict[str, object]:
    servable, running = keeper.catalogue.get(name), keeper.running.get(name)
    moment = keeper.moments.get(name)
    failure = model.failure
    return {
        "name": name,
        "model": name if servable is None else servable.name,
        "source": None if servable is None else servable.source,
        "size_bytes": None if servable is None else servable.size_bytes,
        "n_ctx": None if running is None else running.ctx_size,
        "state": model.phase.value,
        "state_s": None if moment is None else now - moment.since,
        "load_s": model.load_s,
        "progress": "" if moment is None else moment.words,
        "replica_of": None if running is None else running.replica_of,
        "node": None if running is None else running.node,
        "draining": running is not None and running.is_draining,
        "needs_bytes": {place: n for place, n in model.needs.items() if not is_group(place)},
        "planned_bytes": dict(keeper.planned.get(name, {})) or None,
        "active": model.n_active,
        "waiting": len(keeper.state.waits_for(name)),
        "slots": model.slots,
        "pinned": model.pinned,
        "idle_s": now - model.used_at if model.is_idle else None,
        "ttl_s": model.ttl_s,
        "failure": None if failure is None else failure.sentence,
        "problem": None if failure is None else _problem(failure.sentence),
        "retry_s": None if failure is None else max(0.0, failure.until - now),
    }


def _fallback(keeper: Keeper, proxy: Proxy, name: str) -> dict[str, object] | None:
    servable = keeper.catalogue.get(name)
    config = None if servable is None else servable.config.fallback
    if config is None or proxy.fallback is None:
        return None
    spent = proxy.fallback.spending.spent(name)
    return {"host": config.host, "when": config.when, "spent": spent, "monthly_budget": config.monthly_budget}


def _problem(sentence: str) -> dict[str, str | None]:
    what, _, hint = sentence.removesuffix(")").partition(_HINT)
    return {"sentence": what, "hint": hint} if hint else {"sentence": sentence, "hint": None}


def _memory(keeper: Keeper) -> dict[str, dict[str, object]]:
    """Return per place what ours may hold, what they do hold, and what its driver shows as free."""
    state = keeper.state
    held, loading = state.held(HOLDING), state.held({Phase.LOADING})
    return {
        place: {
            "name": keeper.places[place].name if place in keeper.places else place,
            "total_bytes": keeper.places[place].total_bytes if place in keeper.places else None,
            "capacity_bytes": capacity,
            "held_bytes": held.get(place, 0),
            "loading_bytes": loading.get(place, 0),
            "free_bytes": keeper.free.get(place),
        }
        for place, capacity in state.capacity.items()
    }


def _request(keeper: Keeper, exchange: Exchange, now: float) -> dict[str, object]:
    seconds = now - exchange.began
    model = keeper.state.models.get(exchange.asked or "")
    if exchange.first_byte_s is not None:
        state = "answering"
    elif model is not None and model.phase is not Phase.READY:
        state = "waiting for the model"
    else:
        state = "reading the prompt"
    return {
        "model": exchange.model,
        "asked": exchange.asked,
        "path": exchange.target.decode("latin-1").partition("?")[0],
        "state": state,
        "seconds": seconds,
        "waited_s": exchange.waited_s,
        "first_byte_s": exchange.first_byte_s,
        "bytes": exchange.n_bytes,
        "events": exchange.n_events,
        "tokens_per_s": tokens_per_s(exchange, seconds, exchange.tokens[1]),
    }


def _change(change: Change) -> dict[str, object]:
    problem = _problem(change.words) if change.words else None
    return {"at": change.at, "name": change.model, "state": change.phase.value, "problem": problem}
