"""What llama-server loads beside the model: a draft model (`-md`) and a multimodal projector (`--mmproj`).

Pure data, and the two questions that are asked about them. Both take memory from the same devices as the model, and
where they go follows from the model's own placement unless it is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.modes import CacheType, TensorOverride


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """llama-server's flags for a draft model. `path` is a file, or `hf:` and a repo; `devices` None are the main model's, () the host; `n_gpu_layers`
    None is all layers."""

    path: str
    devices: tuple[str, ...] | None = None
    n_gpu_layers: int | None = None
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    overrides: tuple[TensorOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorRequest:
    """llama-server's flags for a projector. `path` is a file or a URL; `where` None is the first device in use; -1 the model's own number of
    tokens."""

    path: str
    where: str | None = None
    image_min_tokens: int = -1
    image_max_tokens: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionRequest:
    """What is asked for beside the model. `n_draft` is how many tokens are drafted at once for each slot: each wants a
    row of the main model's logits (common_speculative_get_output_limits)."""

    draft: DraftRequest | None = None
    projector: ProjectorRequest | None = None
    spec_types: tuple[str, ...] = ()
    n_draft: int = 0
