"""A model's anatomy as a table and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from launcher.cli.show.tables import bar, facts, grid
from launcher.gguf.anatomy import Anatomy
from launcher.gguf.model import ModelFile
from launcher.units import format_bytes, format_count


def table(model: ModelFile, anatomy: Anatomy) -> RenderableType:
    """What it is, where its bytes are, and what one token reads."""
    arch = anatomy.architecture
    used = max(arch.n_expert_used, default=0)
    experts = f"{arch.n_expert}, {used} used, {arch.n_expert_shared or 0} shared" if arch.is_moe else None
    shards = f"{len(model.shards)} shards" if len(model.shards) > 1 else "1 file"
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
            ("quant", f"{anatomy.quant}, {anatomy.bits_per_weight:.2f} bits per weight, as its tensors are"),
            ("per token", f"{format_bytes(anatomy.bytes_per_token)} of weights read"),
        ]
    )
    total = anatomy.weight_bytes or 1
    kinds = [
        (str(kind), format_bytes(size), f"{100 * size / total:.1f} %", bar(size, total, 20))
        for kind, size in sorted(anatomy.bytes_by_kind.items(), key=lambda item: -item[1])
        if size
    ]
    types = [
        (type_.name, format_bytes(size), f"{100 * size / total:.1f} %", bar(size, total, 20))
        for type_, size in anatomy.types
    ]
    right = frozenset({"bytes", "share"})
    notes = [Text(f"note: {sentence}") for sentence in anatomy.disagreements]
    return Group(
        head,
        grid(("kind", "bytes", "share", ""), kinds, right=right),
        grid(("type", "bytes", "share", ""), types, right=right),
        *notes,
    )


def document(model: ModelFile, anatomy: Anatomy) -> dict[str, Any]:
    """The same for programs: sizes in bytes, shards with their sha256 where the source vouches for one."""
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
        "n_expert_shared": arch.n_expert_shared,
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
