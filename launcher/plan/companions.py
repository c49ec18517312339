"""What llama-server loads beside the model: a draft model (`-md`) and a multimodal projector (`--mmproj`).

Pure data, and the two questions that are asked about them. Both take memory from the same devices as the model, and
where they go follows from the model's own placement unless it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.errors import UsageError
from launcher.machine import Device
from launcher.model import ModelFile
from launcher.plan.budget import free_bytes
from launcher.plan.oracle import Oracle, ProjectorOracle, ProjectorQuestion, Question, SplitMode
from launcher.plan.plan import HOST, CacheType, LedgerRow, TensorOverride

_HEAD_TYPES = ("draft-mtp", "draft-eagle3", "draft-dflash", "draft-dspark")
"""Ways of drafting whose model works on the main model's states (common/speculative.cpp): its context cannot be made
without the main one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftWish:
    """llama-server's flags for a draft model. `path` is a file, or `hf:` and a repo; `devices` None are the main model's, () the host; `n_gpu_layers`
    None is all layers."""

    path: str
    devices: tuple[str, ...] | None = None
    n_gpu_layers: int | None = None
    cache_type_k: CacheType = CacheType.F16
    cache_type_v: CacheType = CacheType.F16
    overrides: tuple[TensorOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorWish:
    """llama-server's flags for a projector. `path` is a file or a URL; `where` None is the first device in use; -1 the model's own number of
    tokens."""

    path: str
    where: str | None = None
    image_min_tokens: int = -1
    image_max_tokens: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionWishes:
    """What is asked for beside the model. `n_draft` is how many tokens are drafted at once for each slot: each wants a
    row of the main model's logits (common_speculative_get_output_limits)."""

    draft: DraftWish | None = None
    projector: ProjectorWish | None = None
    spec_types: tuple[str, ...] = ()
    n_draft: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft model, its headers read. `path` is its first shard's, `oracle` who simulates it."""

    wish: DraftWish
    model: ModelFile
    path: str
    oracle: Oracle


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector:
    """A projector, its header read."""

    wish: ProjectorWish
    model: ModelFile
    path: str
    oracle: ProjectorOracle


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """What is loaded beside the model; nothing by default."""

    draft: Draft | None = None
    projector: Projector | None = None
    n_draft: int = 0


NO_COMPANIONS = Companions()


def needs_main_context(spec_types: Sequence[str], model: ModelFile) -> bool:
    """Whether this draft model cannot be simulated by itself: so says `--spec-type`, or its header where that is left
    open (common_speculative_types_from_gguf)."""
    if any(name in _HEAD_TYPES for name in spec_types):
        return True
    architecture = model.metadata.get("general.architecture")
    return architecture in {"dflash", "eagle3", "gemma4-assistant"} or any(
        ".nextn.eh_proj." in tensor.name for tensor in model.tensors
    )


def draft_question(
    draft: Draft, main: Question, devices: Sequence[Device], ledger: Sequence[LedgerRow]
) -> Question:
    """The draft model as llama-server loads it beside `main`: the same pool, slots, batches and split, its own layers,
    devices and cache types (common_base_params_to_speculative, common/speculative.cpp at 0c1e570).

    `devices` are the machine's; `ledger` is what `main` holds of them: a split by free memory sees the rest. Raises
    UsageError for a device that is not there.
    """
    wish = draft.wish
    if wish.devices is None:
        used = main.devices
    else:
        used = tuple(_device(name, devices, "-devd") for name in wish.devices)
    split = main.tensor_split[: len(used)] if len(main.devices) > 1 else ()
    split = split if any(split) else ()
    if len(used) > 1 and not split:
        held = {row.where: row.used_bytes for row in ledger}
        used = tuple(
            replace(device, free_bytes=max(free_bytes(device) - held.get(device.id, 0), 0)) for device in used
        )
    alone = wish.devices is not None and len(used) == 1
    return replace(
        main,
        model=draft.path,
        devices=used,
        split_mode=SplitMode.LAYER if alone else main.split_mode,
        cache_type_k=wish.cache_type_k,
        cache_type_v=wish.cache_type_v,
        overrides=wish.overrides,
        tensor_split=split,
        n_gpu_layers=wish.n_gpu_layers,
        n_outputs=None,
        n_draft=0,
    )


def projector_question(projector: Projector, main: Question, devices: Sequence[Device]) -> ProjectorQuestion:
    """The projector as llama-server loads it beside `main`: on the first device in use unless told otherwise
    (common_params_parse_ex, common/arg.cpp). Raises UsageError for a device that is not there."""
    wish = projector.wish
    where = wish.where
    if where is None:
        where = main.devices[0].id if main.devices else HOST
    used = main.devices
    if where != HOST and where not in {device.id for device in used}:
        used = (*used, _device(where, devices, "-mmdev"))
    return ProjectorQuestion(
        model=projector.path,
        devices=used,
        where=where,
        flash_attn=main.flash_attn,
        image_min_tokens=wish.image_min_tokens,
        image_max_tokens=wish.image_max_tokens,
    )


def _device(name: str, devices: Sequence[Device], flag: str) -> Device:
    for device in devices:
        if device.id == name:
            return device
    there = ", ".join(device.id for device in devices) or "no device"
    raise UsageError(
        f"{flag} names {name}, and this machine has {there}",
        hint="launcher probe shows the devices",
    )
