"""Companions of a model: a draft model (`-md`) and a multimodal projector (`--mmproj`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from launcher.errors import UsageError
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Device
from launcher.plan.modes import CacheType, TensorOverride
from launcher.plan.oracle import Oracle, ProjectorOracle, Question

MTP = "draft-mtp"
# Ways of drafting that work on the main model's states: their context is made with the main one, whose
# recurrent states they roll back (common_params_speculative::need_n_rs_seq, common/common.h).
HEAD_TYPES = (MTP, "draft-eagle3", "draft-dflash", "draft-dspark")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    path: str  # a file, or `hf:` and a repo
    devices: tuple[str, ...] | None = None  # None: the main model's; (): the host
    n_gpu_layers: int | None = None  # None: all layers
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    overrides: tuple[TensorOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MtpRequest:
    """Drafts by the model's own MTP blocks, in a context of their own."""

    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorRequest:
    path: str  # a file or a URL
    where: str | None = None  # None: the first device in use
    image_min_tokens: int = -1  # -1: the model's own number
    image_max_tokens: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Ways of drafting, and how many tokens at once for each slot."""

    spec_types: tuple[str, ...] = ()
    # The most of all ways; each token needs a row of the main model's logits
    # (common_speculative_get_output_limits).
    n_draft: int = 0
    head_length: int = 0  # of draft models and heads (--spec-draft-n-max)
    backend_sampling: bool = True  # heads have their drafts sampled on the device

    @property
    def n_rs_seq(self) -> int:
        """Recurrent states kept beside each slot's own."""
        return self.head_length if any(name in HEAD_TYPES for name in self.spec_types) else 0

    def of_main(self, question: Question) -> Question:
        """Return the question about the main model that is loaded to draft so."""
        return replace(
            question, n_draft=self.n_draft, n_rs_seq=self.n_rs_seq, load_mtp=MTP in self.spec_types
        )


def speculation_fields(speculation: Speculation) -> dict[str, Any]:
    """Return the fields by name, to build another type that has them."""
    return {field.name: getattr(speculation, field.name) for field in fields(Speculation)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionRequest(Speculation):
    # Unless a flag says where, they go where the model is placed.
    draft: DraftRequest | None = None
    mtp: MtpRequest | None = None
    projector: ProjectorRequest | None = None


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
class Companions(Speculation):
    """All that is loaded with the model."""

    draft: Draft | None = None
    mtp: MtpRequest | None = None
    projector: Projector | None = None
    uncounted: tuple[str, ...] = ()  # sentences on files that nobody can count: no plain yes with them

    @property
    def is_empty(self) -> bool:
        loaded = (self.draft, self.mtp, self.projector)
        return loaded == (None, None, None) and not self.n_draft and not self.uncounted


NO_COMPANIONS = Companions()


def refuse_beside_peers(companions: Companions, devices: Iterable[Device]) -> None:
    """Raise UsageError for companions of a model on RPC peers: on which device they come is not known."""
    if not companions.is_empty and any(device.peer is not None for device in devices):
        raise UsageError(
            "a draft model or a projector beside RPC peers is not planned: on which device llama-server puts "
            "it there is not known",
            hint="leave it out, which says what the model alone takes",
        )
