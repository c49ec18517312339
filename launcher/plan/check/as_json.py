"""Write the verdict on a command line as the document of `launcher check --json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from launcher.plan.as_json import PLAN_SCHEMA, ledger_json
from launcher.plan.check.check import Check
from launcher.plan.memory.assign import Share
from launcher.plan.oracle import Question
from launcher.plan.plan import Finding
from launcher.plan.reasons import format_ranges


def check_json(value: Check) -> dict[str, Any]:
    return {
        "schema": PLAN_SCHEMA,
        "fits": None if value.finding is Finding.UNVERIFIED else value.fits,
        "verdict": value.finding.value,
        "model": {"id": value.model_id, "source": value.source, "size_bytes": value.size_bytes},
        "context": {
            "tokens": value.pool,
            "slots": value.question.n_parallel,
            "shared": value.question.kv_unified,
            "per_slot": value.slot_ctx_size,
        },
        "settings": _settings_json(value.question),
        "layers": [_share_json(share) for share in value.assignment.shares],
        **ledger_json(value.ledger),
        "fit": _fit_json(value),
        "simulated_by": value.simulated_by,
        "unverified": value.unverified,
        "paged_bytes": value.paged_bytes,  # of experts that are read from the file as they are used
        "failures": [
            {"where": failure.where, "stage": failure.stage, "missing_bytes": failure.missing_bytes}
            for failure in value.failures
        ],
        # at their limits, which they reach while the server runs; null without a prompt cache or checkpoints
        "caches": asdict(value.caches) if value.caches is not None else None,
        "refusal": value.refusal,
        "reasons": list(value.reasons),
    }


def _settings_json(question: Question) -> dict[str, Any]:
    return {
        "cache_type_k": question.cache_type_k.value,
        "cache_type_v": question.cache_type_v.value,
        "batch_size": question.batch_size,
        "ubatch_size": question.ubatch_size,
        "flash_attn": question.flash_attn.value,
        "load_mode": question.load_mode.value,
        "lazy_mode": question.lazy_mode.value,
        "embedding": question.embedding,
        "pooling": None if question.pooling is None else question.pooling.value,
        "n_gpu_layers": question.n_gpu_layers,
        "split_mode": question.split_mode.value,
        "tensor_split": list(question.tensor_split) or None,
        "kv_offload": question.kv_offload,
        "op_offload": question.op_offload,
        "no_host": question.no_host,
        "repack": question.repack,
        "swa_full": question.swa_full,
        "overrides": [{"pattern": rule.pattern, "where": rule.where} for rule in question.overrides],
    }


def _fit_json(value: Check) -> dict[str, Any]:
    """Return what `--fit` has made of the line; `null` is what it has left alone."""
    fit, question = value.fit, value.question
    return {
        "outcome": fit.outcome.value,
        "why": fit.why,
        "context": question.ctx_size if fit.is_shorter else None,
        "n_gpu_layers": question.n_gpu_layers if fit.is_placed else None,
        "tensor_split": list(question.tensor_split) or None if fit.is_placed else None,
        "host_expert_blocks": len(value.assignment.moved_blocks) if fit.is_placed else None,
    }


def _share_json(share: Share) -> dict[str, Any]:
    return {
        "where": share.where,
        "layers": format_ranges(share.layers),
        "n_layers": len(share.layers),
        "expert_blocks": format_ranges(share.expert_blocks),
        "n_expert_blocks": len(share.expert_blocks),
        "expert_bytes": share.expert_bytes,
    }
