"""Write a plan, or a shortfall, as versioned JSON (`schema: 1`). Pure.

Sizes are bytes, unknown is null. Within a schema keys are added, never renamed or removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from launcher.gguf.model import RECIPE_SOURCE
from launcher.machine.machine import format_cpu_list
from launcher.plan.amounts import HOST, MOST_CERTAIN_FIRST, Amount, Basis, LedgerRow
from launcher.plan.overrides import format_override
from launcher.plan.plan import Finding, Placement, Plan, Shortfall

# A supervisor writes plans, and stays small without the tables of the forecast and of the search.
if TYPE_CHECKING:
    from launcher.plan.forecast.turn import Band, Forecast
    from launcher.plan.search.choice import Choice

# `--buy` adds `purchases` and `api` to the document (commands/planned.py).
PLAN_SCHEMA = 1


def plan_json(
    plan: Plan,
    *,
    argv: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    choice: Choice | None = None,
) -> dict[str, Any]:
    """Return the document of `launcher plan --json`; `argv` and `env` start the engine at hand."""
    return {
        "schema": PLAN_SCHEMA,
        "fits": None if plan.unverified is not None else True,
        "verdict": plan.finding.value,
        "model": _model(plan),
        "quant": plan.quant,
        # One pool: `slots` requests of `tokens / slots` each are guaranteed at once.
        "context": {"tokens": plan.ctx_size, "slots": plan.n_parallel, "shared": True},
        "settings": _settings(plan),
        "placement": _placement(plan.placement),
        "peers": [asdict(peer) for peer in plan.peers],  # where RPC0 and on are
        **ledger_json(plan.ledger),
        **_recipe_basis(plan),
        "simulated_by": plan.simulated_by,
        "unverified": plan.unverified,
        "argv": list(argv) or None,
        "env": dict(env or {}),  # what pins llama.cpp's order of devices
        "forecast": forecast_json(plan.forecast),
        "reasons": list(plan.reasons),
        **_choice(choice),
        "shortfall": None,
    }


def shortfall_json(shortfall: Shortfall, *, choice: Choice | None = None) -> dict[str, Any]:
    return {
        "schema": PLAN_SCHEMA,
        "fits": False,
        "verdict": Finding.DOES_NOT_FIT.value,
        "model": _model(shortfall),
        "quant": shortfall.quant,
        "context": {"tokens": shortfall.ctx_size, "slots": None, "shared": True},
        "settings": None,
        "placement": None,
        "peers": [],
        **ledger_json(shortfall.ledger),
        **_recipe_basis(shortfall),
        "simulated_by": None,
        "unverified": None,
        "argv": None,
        "env": None,
        "forecast": None,
        "reasons": list(shortfall.reasons),
        **_choice(choice),
        "shortfall": {
            "where": shortfall.where,  # a device's id, `host`, `disk` or `speed`
            "missing_bytes": shortfall.missing_bytes,
            "hints": list(shortfall.hints),
        },
    }


def basis_of(ledger: Sequence[LedgerRow]) -> Basis:
    """Return the least certain basis of all amounts that are not zero."""
    bases = {amount.basis for row in ledger for amount in row.amounts if amount.n_bytes or amount.band_bytes}
    return max(bases, key=MOST_CERTAIN_FIRST.index, default=Basis.EXACT)


def _recipe_basis(outcome: Plan | Shortfall) -> dict[str, str]:
    """Return a basis to replace the ledger's if no file was read, else nothing."""
    if outcome.source.startswith(RECIPE_SOURCE):
        return {"basis": "estimated from published architecture"}  # else a value of Basis
    return {}


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "cache_type_k": plan.cache_type_k.value,
        "cache_type_v": plan.cache_type_v.value,
        "batch_size": plan.batch_size,
        "ubatch_size": plan.ubatch_size,
        "flash_attn": plan.flash_attn.switch,
        "load_mode": plan.load_mode.value,
        "lazy_mode": plan.lazy_mode.value,
        "embedding": plan.embedding,
        "pooling": None if plan.pooling is None else plan.pooling.value,
        "op_offload": plan.op_offload,
        "cache_ram_bytes": plan.cache_ram_bytes,
        "ctx_checkpoints": plan.ctx_checkpoints,
        "threads": plan.threads,
        "dialect": plan.dialect.value,
        "numa": None if plan.numa is None else plan.numa.value,
        "cpus": format_cpu_list(plan.cpus) or None,  # those the process is bound to
    }


def _placement(placement: Placement) -> dict[str, Any]:
    return {
        "n_block": placement.n_block,
        "n_gpu_layers": placement.n_gpu_layers,
        "devices": list(placement.devices),
        "tensor_split": list(placement.tensor_split),
        "host_expert_blocks": list(placement.host_expert_blocks),
        "host_expert_parts": [
            {"block": block, "kinds": list(kinds)} for block, kinds in placement.host_expert_parts
        ],
        "overrides": [format_override(rule) for rule in placement.overrides],  # the user's
        "paged_bytes": placement.paged_bytes,  # of experts that are read from the file as they are used
    }


def _model(outcome: Plan | Shortfall) -> dict[str, Any]:
    # `source` begins with RECIPE_SOURCE where no file was read.
    return {"id": outcome.model_id, "source": outcome.source, "size_bytes": outcome.size_bytes}


def ledger_json(ledger: Sequence[LedgerRow]) -> dict[str, Any]:
    devices = [{"id": row.where, "name": row.name, **_row(row)} for row in ledger if row.where != HOST]
    host = next((_row(row) for row in ledger if row.where == HOST), None)
    return {"basis": basis_of(ledger).value, "devices": devices, "host": host}


def _row(row: LedgerRow) -> dict[str, Any]:
    return {
        "budget_bytes": row.budget_bytes,
        "weights_bytes": row.weights.n_bytes,
        "kv_bytes": row.kv.n_bytes,
        "compute_bytes": row.compute.n_bytes,
        "cache_bytes": row.cache.n_bytes,
        "overhead_bytes": row.overhead.n_bytes,
        "extra_bytes": row.adapters.n_bytes,
        "file_bytes": row.file_bytes,  # weights read from the file, in none of the others
        "shared_bytes": row.shared_bytes,  # of the host's memory, taken by devices
        "band_bytes": sum(amount.band_bytes for amount in row.amounts),
        "used_bytes": row.used_bytes,  # each amount at the top of its band
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
        return {"alternatives": [], "options": [], "prices": [], "speculation": None, "simulations": None}
    return {
        "alternatives": [asdict(quant) for quant in choice.rejected],  # quants that were not taken
        # Plans that no other beats in both quality and turn time.
        "options": [asdict(option) for option in choice.options],
        "prices": [asdict(change) for change in choice.changes],  # changes to the plan
        # MTP blocks of the model: what drafts by them take and bring
        "speculation": None if choice.speculation is None else asdict(choice.speculation),
        "simulations": choice.n_simulations,  # questions to the simulator, at most 8
    }


def forecast_json(forecast: Forecast | None) -> dict[str, Any] | None:
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
        "measured": forecast.measured,  # the day on which it was; null: predicted
    }


def _band(band: Band) -> dict[str, float]:
    return {"low": round(band.low, 2), "mid": round(band.mid, 2), "high": round(band.high, 2)}
