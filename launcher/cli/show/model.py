"""A model's anatomy as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType

from launcher.cli.show.tables import bar, facts, grid, line
from launcher.gguf.anatomy import Anatomy
from launcher.gguf.model import RECIPE_SOURCE, ModelFile
from launcher.units import format_bytes, format_count


def render_model(model: ModelFile, anatomy: Anatomy) -> RenderableType:
    """Lay out what the model is and how its bytes are distributed over kinds and types of tensors."""
    arch = anatomy.architecture
    used = max(arch.n_expert_used, default=0)
    experts = f"{arch.n_expert}, {used} used, {anatomy.n_expert_shared or 0} shared" if arch.is_moe else None
    shards = f"{len(model.shards)} shards" if len(model.shards) > 1 else "1 file"
    is_read = not model.source.startswith(RECIPE_SOURCE)
    basis = "as its tensors are" if is_read else "as published: no file was read"
    head = facts(
        [
            ("model", model.model_id),
            ("source", model.source),
            ("files", f"{shards}, {format_bytes(model.size_bytes)}"),
            ("architecture", arch.name),
            (
                "parameters",
                f"{format_count(anatomy.n_params)}, {format_count(anatomy.n_params_active)} active",
            ),
            ("layers", f"{arch.n_block}"),
            ("experts", experts),
            ("context", f"{arch.n_ctx_train} tokens trained"),
            ("quant", f"{anatomy.quant}, {anatomy.bits_per_weight:.2f} bits per weight, {basis}"),
            ("per token", f"{format_bytes(anatomy.bytes_per_token)} of weights read"),
        ]
    )
    kinds = sorted(anatomy.bytes_by_kind.items(), key=lambda item: -item[1])
    total = anatomy.weight_bytes
    notes = [line(f"note: {sentence}") for sentence in anatomy.disagreements]
    return Group(
        head,
        _shares("kind", ((str(kind), size) for kind, size in kinds if size), total),
        _shares("type", ((type_.name, size) for type_, size in anatomy.types), total),
        *notes,
    )


def _shares(header: str, sizes: Iterable[tuple[str, int]], total: int) -> RenderableType:
    """Lay out sizes in bytes with their share of `total`."""
    total = total or 1  # a file without weights
    rows = [
        (name, format_bytes(size), f"{100 * size / total:.1f} %", bar(size, total, 20))
        for name, size in sizes
    ]
    return grid((header, "bytes", "share", ""), rows, right=frozenset({"bytes", "share"}))


def model_json(model: ModelFile, anatomy: Anatomy) -> dict[str, Any]:
    """Return the model for programs; shards have their sha256 where the source states one."""
    arch = anatomy.architecture
    return {
        "schema": 1,
        "model_id": model.model_id,
        "source": model.source,
        "shards": model.shards,
        "size_bytes": model.size_bytes,
        "architecture": arch.name,
        "n_params": anatomy.n_params,
        "n_params_active": anatomy.n_params_active,
        "n_layer": arch.n_block,
        "n_embd": arch.n_embd,
        "n_vocab": arch.n_vocab,
        "n_ctx_train": arch.n_ctx_train,
        "n_expert": arch.n_expert,
        "n_expert_used": max(arch.n_expert_used, default=None),
        "n_expert_shared": anatomy.n_expert_shared,
        "quant": anatomy.quant,
        "quant_named": anatomy.named,
        "quant_file_type": anatomy.file_type,
        "disagreements": anatomy.disagreements,
        "bits_per_weight": round(anatomy.bits_per_weight, 4),
        "weight_bytes": anatomy.weight_bytes,
        "bytes_by_kind": {str(kind): size for kind, size in anatomy.bytes_by_kind.items()},
        "bytes_by_type": {type_.name: size for type_, size in anatomy.types},
        "bytes_per_token": anatomy.bytes_per_token,
    }
