"""A plan, or what is missing, as versioned JSON (`schema: 1`). Unknown fields are null, sizes bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from launcher.gguf.model import RECIPE_SOURCE
from launcher.machine.machine import format_cpu_list
from launcher.plan.amounts import HOST, MOST_CERTAIN_FIRST, Amount, Basis, LedgerRow
from launcher.plan.overrides import format_override
from launcher.plan.plan import Plan, Shortfall

# A supervisor writes plans, and stays small without the tables of the forecast and of the search.
if TYPE_CHECKING:
    from launcher.plan.forecast.turn import Band, Forecast
    from launcher.plan.search.choice import Choice

PLAN_SCHEMA = 1


def plan_json(
    plan: Plan,
    *,
    argv: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    choice: Choice | None = None,
) -> dict[str, Any]:
    """The document of `launcher plan --json` (plan/DESIGN.md describes it). `choice` is what the plan is from."""
    return {
        "schema": PLAN_SCHEMA,
        "fits": True,
        "model": _model(plan),
        "quant": plan.quant,
        "context": {"tokens": plan.ctx_size, "slots": plan.n_parallel, "shared": True},
        "settings": {
            "cache_type_k": plan.cache_type_k.value,
            "cache_type_v": plan.cache_type_v.value,
            "batch_size": plan.batch_size,
            "ubatch_size": plan.ubatch_size,
            "flash_attn": plan.flash_attn.switch,
            "load_mode": plan.load_mode.value,
            "cache_ram_bytes": plan.cache_ram_bytes,
            "ctx_checkpoints": plan.ctx_checkpoints,
            "threads": plan.threads,
            "numa": None if plan.numa is None else plan.numa.value,
            "cpus": format_cpu_list(plan.cpus) or None,
        },
        "placement": {
            "n_block": plan.placement.n_block,
            "n_gpu_layers": plan.placement.n_gpu_layers,
            "devices": list(plan.placement.devices),
            "tensor_split": list(plan.placement.tensor_split),
            "host_expert_blocks": list(plan.placement.host_expert_blocks),
            "host_expert_parts": [
                {"block": block, "kinds": list(kinds)} for block, kinds in plan.placement.host_expert_parts
            ],
            "overrides": [format_override(rule) for rule in plan.placement.overrides],
        },
        **ledger_json(plan.ledger),
        **_basis_said(plan),
        "simulated_by": plan.simulated_by,
        "argv": list(argv) or None,
        "env": dict(env or {}),
        "forecast": _forecast(plan.forecast),
        "reasons": list(plan.reasons),
        **_choice(choice),
        "shortfall": None,
    }


def shortfall_json(shortfall: Shortfall, *, choice: Choice | None = None) -> dict[str, Any]:
    """The same document when nothing fits."""
    return {
        "schema": PLAN_SCHEMA,
        "fits": False,
        "model": _model(shortfall),
        "quant": shortfall.quant,
        "context": {"tokens": shortfall.ctx_size, "slots": None, "shared": True},
        "settings": None,
        "placement": None,
        **ledger_json(shortfall.ledger),
        **_basis_said(shortfall),
        "simulated_by": None,
        "argv": None,
        "env": None,
        "forecast": None,
        "reasons": list(shortfall.reasons),
        **_choice(choice),
        "shortfall": {
            "where": shortfall.where,
            "missing_bytes": shortfall.missing_bytes,
            "hints": list(shortfall.hints),
        },
    }


def basis_of(ledger: Sequence[LedgerRow]) -> Basis:
    """The least sure basis of any amount that matters."""
    bases = {amount.basis for row in ledger for amount in row.amounts if amount.n_bytes or amount.band_bytes}
    return max(bases, key=MOST_CERTAIN_FIRST.index, default=Basis.EXACT)


def _basis_said(outcome: Plan | Shortfall) -> dict[str, str]:
    """In place of the ledger's basis, where there were no files to read."""
    if outcome.source.startswith(RECIPE_SOURCE):
        return {"basis": "estimated from published architecture"}
    return {}


def _model(outcome: Plan | Shortfall) -> dict[str, Any]:
    return {"id": outcome.model_id, "source": outcome.source, "size_bytes": outcome.size_bytes}


def ledger_json(ledger: Sequence[LedgerRow]) -> dict[str, Any]:
    """Every row, and the least sure basis among them."""
    devices = [{"id": row.where, "name": row.name, **_row(row)} for row in ledger if row.where != HOST]
    host = next((_row(row) for row in ledger if row.where == HOST), None)
    return {"basis": basis_of(ledger).value, "devices": devices, "host": host}


def _row(row: LedgerRow) -> dict[str, Any]:
    """Every amount with its basis; `used_bytes` counts estimates at the top of their band."""
    return {
        "budget_bytes": row.budget_bytes,
        "weights_bytes": row.weights.n_bytes,
        "kv_bytes": row.kv.n_bytes,
        "compute_bytes": row.compute.n_bytes,
        "cache_bytes": row.cache.n_bytes,
        "overhead_bytes": row.overhead.n_bytes,
        "extra_bytes": row.adapters.n_bytes,
        "band_bytes": sum(amount.band_bytes for amount in row.amounts),
        "used_bytes": row.used_bytes,
        "free_bytes": row.free_bytes,
        "basis": {
            "weights": _basis(row.weights),
            "kv": _basis(row.kv),
            "compute": _basis(row.compute),
            "cache": _basis(row.cache),
            "overhead": _basis(row.overhead),
            "extra": _basis(row.adapters),
        },
        "bands": {
            "weights": row.weights.band_bytes,
            "kv": row.kv.band_bytes,
            "compute": row.compute.band_bytes,
            "cache": row.cache.band_bytes,
            "overhead": row.overhead.band_bytes,
            "extra": row.adapters.band_bytes,
        },
    }


def _basis(amount: Amount) -> str:
    return amount.basis.value


def _choice(choice: Choice | None) -> dict[str, Any]:
    if choice is None:
        return {"alternatives": [], "options": [], "prices": [], "simulations": None}
    return {
        "alternatives": [asdict(one) for one in choice.rejected],
        "options": [asdict(one) for one in choice.options],
        "prices": [asdict(one) for one in choice.changes],
        "simulations": choice.n_simulations,
    }


def _forecast(forecast: Forecast | None) -> dict[str, Any] | None:
    if forecast is None:
        return None
    turn = forecast.turn
    return {
        "turn": {
            "cached_tokens": turn.cached_tokens,
            "prompt_tokens": turn.prompt_tokens,
            "reply_tokens": turn.reply_tokens,
        },
        "decode_tps": _band(forecast.decode),
        "prefill_tps": _band(forecast.prefill),
        "turn_seconds": _band(forecast.turn_seconds),
        "assumptions": list(forecast.assumptions),
    }


def _band(band: Band) -> dict[str, float]:
    return {"low": round(band.low, 2), "mid": round(band.mid, 2), "high": round(band.high, 2)}
