"""Say what Ollama's API says of models: its lists, and a model's page."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta

from launcher.gateway.admission.state import Phase
from launcher.gateway.catalogue import Servable
from launcher.gateway.keeper import Keeper
from launcher.gateway.status import served
from launcher.plan.amounts import RAM

_YEAR_S = 365 * 24 * 3600.0


def tags(keeper: Keeper, allowed: frozenset[str] | None) -> list[dict[str, object]]:
    """List the models that are here."""
    return [_tag(each) for each in served(keeper, allowed)]


def loaded(keeper: Keeper, allowed: frozenset[str] | None) -> list[dict[str, object]]:
    """List the models that are loaded."""
    rows = []
    for servable in served(keeper, allowed):
        running = next(iter(keeper.replicas(servable.key)), None)
        model = keeper.state.models.get(servable.key if running is None else running.name)
        if model is None or model.phase is not Phase.READY:
            continue
        idle = time.monotonic() - model.used_at
        left = _YEAR_S if model.ttl_s is None or model.pinned else max(0.0, model.ttl_s - idle)
        tag = _tag(servable)
        del tag["modified_at"]
        rows.append({
            **tag,
            "size": sum(model.needs.values()),
            "size_vram": sum(n for place, n in model.needs.items() if place != RAM),
            "expires_at": (datetime.now(UTC) + timedelta(seconds=left)).isoformat(),
            "context_length": None if running is None else running.ctx_size,
        })  # fmt: skip
    return rows


def shown(keeper: Keeper, servable: Servable) -> dict[str, object]:
    """Return a model's page."""
    running = next(iter(keeper.replicas(servable.key)), None)
    ctx_size = None if running is None else running.ctx_size
    context = {} if ctx_size is None else {"general.architecture": "gguf", "gguf.context_length": ctx_size}
    sees = running is not None and running.sees
    return {
        "modelfile": f"FROM {servable.name}\n",
        "parameters": "",
        "template": "",
        "details": _details(servable),
        "model_info": {"general.basename": servable.name, **context},
        "capabilities": ["completion", "tools", *(["vision"] if sees else [])],
        "modified_at": _used_at(servable),
    }


def _tag(servable: Servable) -> dict[str, object]:
    name = servable.name if ":" in servable.name else f"{servable.name}:latest"
    return {
        "name": name,
        "model": name,
        "modified_at": _used_at(servable),
        "size": servable.size_bytes or 0,
        "digest": _digest(servable),
        "details": _details(servable),
    }


def _details(servable: Servable) -> dict[str, object]:
    quant = servable.ref.rpartition(":")[2] if ":" in servable.ref else ""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": quant,
    }


def _digest(servable: Servable) -> str:
    # clients tell models apart by it; of which file it would be is nobody's business
    return hashlib.sha256(servable.key.encode()).hexdigest()


def _used_at(servable: Servable) -> str:
    return datetime.fromtimestamp(servable.used_at or 0, UTC).isoformat()
