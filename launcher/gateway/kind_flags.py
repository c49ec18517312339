"""The flags that let a model do what it is for: embed, rerank, or see."""

from __future__ import annotations

from pathlib import Path

from launcher.gguf.companion_names import companion_kind
from launcher.gguf.file_names import model_name, pick_projector, quant_label
from launcher.gguf.model import ModelFile
from launcher.models.located import LocalFiles, Located

# llama.cpp's pooling types (include/llama.h, enum llama_pooling_type) of models that do not generate
_POOLING_RANK = 4
_EMBEDDING_POOLING = range(1, 4)  # mean, cls, last


def kind_flags(located: Located, typed: tuple[str, ...]) -> tuple[str, ...]:
    """Return the flags that let a model do what it is for: embed, rerank, or see."""
    if not any(flag in {"--embedding", "--embeddings", "--rerank", "--reranking"} for flag in typed):
        pooling = _pooling(located.model)
        if pooling == _POOLING_RANK:
            return ("--reranking",)
        if pooling in _EMBEDDING_POOLING:
            return ("--embeddings",)
    if not any(flag.startswith("--mmproj") or flag in {"-mm", "--no-mmproj"} for flag in typed):
        projector = _projector_beside(located)
        if projector is not None:
            return ("--mmproj", str(projector))
    return ()


def _projector_beside(located: Located) -> Path | None:
    """Return the projector in the folder of a model on this disk, where it is the folder's only model."""
    if not isinstance(located.files, LocalFiles):
        return None
    path = located.files.paths[0]
    names = sorted(each.name for each in path.parent.glob("*.gguf"))
    if len({_without_quant(name) for name in names if companion_kind(name) is None}) != 1:
        return None  # of several models nobody knows whose it is
    found = pick_projector(names, quant_label(path.name) or "")
    return None if found is None else path.parent / found


def _without_quant(name: str) -> str:
    return model_name(name).lower().replace((quant_label(name) or "").lower(), "").strip("-._")


def _pooling(model: ModelFile) -> int | None:
    architecture = model.metadata.get("general.architecture")
    value = model.metadata.get(f"{architecture}.pooling_type")
    return value if isinstance(value, int) else None
