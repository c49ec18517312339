"""The companions that flags ask for: a draft model (`-md`) and a multimodal projector (`--mmproj`). Pure.

Both take memory from the model's devices. Unless a flag says where, their place follows from the model's
placement.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.modes import CacheType, TensorOverride


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """llama-server's flags for a draft model."""

    path: str  # a file, or `hf:` and a repo
    devices: tuple[str, ...] | None = None  # None: the main model's; (): the host
    n_gpu_layers: int | None = None  # None: all layers
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    overrides: tuple[TensorOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorRequest:
    """llama-server's flags for a projector."""

    path: str  # a file or a URL
    where: str | None = None  # None: the first device in use
    image_min_tokens: int = -1  # -1: the model's own number
    image_max_tokens: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionRequest:
    """All companions that are asked for."""

    draft: DraftRequest | None = None
    projector: ProjectorRequest | None = None
    spec_types: tuple[str, ...] = ()
    # Tokens drafted at once for each slot; each needs a row of the main model's logits
    # (common_speculative_get_output_limits).
    n_draft: int = 0
