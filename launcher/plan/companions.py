"""Companions of a model: a draft model (`-md`) and a multimodal projector (`--mmproj`). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.gguf.model import ModelFile
from launcher.plan.modes import CacheType, TensorOverride
from launcher.plan.oracle import Oracle, ProjectorOracle


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    path: str  # a file, or `hf:` and a repo
    devices: tuple[str, ...] | None = None  # None: the main model's; (): the host
    n_gpu_layers: int | None = None  # None: all layers
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    overrides: tuple[TensorOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorRequest:
    path: str  # a file or a URL
    where: str | None = None  # None: the first device in use
    image_min_tokens: int = -1  # -1: the model's own number
    image_max_tokens: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionRequest:
    # Unless a flag says where, they go where the model is placed.
    draft: DraftRequest | None = None
    projector: ProjectorRequest | None = None
    spec_types: tuple[str, ...] = ()
    # Tokens drafted at once for each slot; each needs a row of the main model's logits
    # (common_speculative_get_output_limits).
    n_draft: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft model whose headers are read."""

    request: DraftRequest
    model: ModelFile
    path: str  # of its first shard
    oracle: Oracle  # simulates it


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector:
    """A projector whose header is read."""

    request: ProjectorRequest
    model: ModelFile
    path: str
    oracle: ProjectorOracle


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """All that is loaded with the model."""

    draft: Draft | None = None
    projector: Projector | None = None
    n_draft: int = 0


NO_COMPANIONS = Companions()
