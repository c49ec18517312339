"""Flags typed after `--` that load something beside the model: a draft model, a multimodal projector. PURE.

Spellings, values and defaults from llama.cpp common/arg.cpp and common/common.h, 0c1e570. The last of equal flags wins;
overrides and ways of drafting add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.engine.flags.memory_flags import MOST_BLOCKS
from launcher.engine.flags.user_flags import split_flags
from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.companions import CompanionRequest, DraftRequest, ProjectorRequest
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.modes import CacheType, TensorOverride
from launcher.plan.overrides import parse_rules

_DRAFTS = ("draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark")
_DRAFT_LENGTH: dict[str, tuple[str | None, int]] = {
    **dict.fromkeys(_DRAFTS, ("--spec-draft-n-max", 3)),
    "ngram-simple": ("--spec-ngram-simple-size-m", 48),
    "ngram-map-k": ("--spec-ngram-map-k-size-m", 48),
    "ngram-map-k4v": ("--spec-ngram-map-k4v-size-m", 48),
    "ngram-mod": ("--spec-ngram-mod-n-max", 64),
    "ngram-cache": (None, 8),
}
"""The flag and the default of how many tokens each way of drafting offers at once (common_speculative_n_max,
common/speculative.cpp). A draft model without `--spec-type` is loaded and drafts nothing."""
_LOCAL = {"-hfd": "-md", "-mmu": "-mm"}
"""What names a file that llama-server would download, and what names it by its path."""

COMPANION_FILE_FLAGS = frozenset(_LOCAL) | frozenset(_LOCAL.values())
"""What names a file that is loaded beside the model, wherever it is."""

_SPELLED = {"-md": "-md", "-mm": "--mmproj"}
"""As llama-server has called them the longest."""

_LENGTH_FLAGS = frozenset(flag for flag, _ in _DRAFT_LENGTH.values() if flag is not None)


@dataclass(slots=True)
class _Reading:
    """The flags as far as they were read."""

    draft: dict[str, Any] = field(default_factory=dict)
    projector: dict[str, Any] = field(default_factory=dict)
    overrides: list[TensorOverride] = field(default_factory=list)
    spec_types: list[str] = field(default_factory=list)
    lengths: dict[str, int] = field(default_factory=dict)


_Handler = Callable[[_Reading, str], None]


def read_companions(flags: Sequence[str]) -> CompanionRequest:
    """What these flags load beside the model. Raises UsageError for values llama-server would refuse."""
    reading = _Reading()
    for name, words in split_flags(flags):
        handler = _HANDLERS.get(name)
        if handler is None and name not in _LENGTH_FLAGS:
            continue
        n_values = 0 if name in _BARE else 1
        if len(words) != 1 + n_values:
            raise UsageError(f"{words[0]} after -- takes {'no value' if name in _BARE else 'one value'}")
        value = words[1] if n_values else ""
        try:
            if handler is None:
                reading.lengths[name] = int(value)
            else:
                handler(reading, value)
        except (KeyError, ValueError):
            raise UsageError(f"{' '.join(words)} after -- is nothing llama-server would take") from None
    return _wishes(reading)


def names_remote_file(flags: Sequence[str]) -> bool:
    """Whether these flags name a file that llama-server would download."""
    return any(name in _LOCAL for name, _ in split_flags(flags))


def is_companion_flag(name: str) -> bool:
    """Whether a flag of this name (`wishes.split_flags`) is one that `read_companions` reads."""
    return name in _HANDLERS or name in _LENGTH_FLAGS


def with_local_file(flags: Sequence[str], flag: str, path: str, also: Sequence[str] = ()) -> tuple[str, ...]:
    """These flags, with the path of a companion that was brought here (`flag` is `-md` or `-mm`) instead of where it
    came from; `also` follows it."""
    kept = [word for name, words in split_flags(flags) if _LOCAL.get(name, name) != flag for word in words]
    return (*kept, _SPELLED[flag], path, *also)


def _wishes(reading: _Reading) -> CompanionRequest:
    draft = projector = None
    if "remote" in reading.draft and "path" in reading.draft:  # -md is a file of that repo then
        repo = reading.draft["remote"].removeprefix("hf:").partition(":")[0]
        reading.draft["remote"] = f"hf:{repo}/{reading.draft['path']}"
    for companion in (reading.draft, reading.projector):
        if remote := companion.pop("remote", None):  # what is fetched takes the place of a file that is named
            companion["path"] = remote
    if "path" in reading.draft:
        draft = DraftRequest(overrides=tuple(reading.overrides), **reading.draft)
    if "path" in reading.projector:
        projector = ProjectorRequest(**reading.projector)
    types = tuple(dict.fromkeys(reading.spec_types))
    return CompanionRequest(
        draft=draft,
        projector=projector,
        spec_types=types,
        n_draft=max((_length(name, reading.lengths) for name in types), default=0),
    )


def _length(spec_type: str, lengths: Mapping[str, int]) -> int:
    flag, usual = _DRAFT_LENGTH[spec_type]
    return max(lengths.get(flag, usual) if flag else usual, 0)


def _draft(name: str, parse: Callable[[str], object]) -> _Handler:
    def handle(reading: _Reading, value: str) -> None:
        reading.draft[name] = parse(value)

    return handle


def _projector(name: str, parse: Callable[[str], object]) -> _Handler:
    def handle(reading: _Reading, value: str) -> None:
        reading.projector[name] = parse(value)

    return handle


def _devices(value: str) -> tuple[str, ...]:
    names = tuple(filter(None, value.split(",")))
    if not names:
        raise ValueError(value)
    return () if names == ("none",) else names


def _one_device(value: str) -> str:
    names = _devices(value)
    if len(names) > 1:
        raise ValueError(value)
    return names[0] if names else HOST


def _layers(value: str) -> int | None:
    """`auto` is all of them, as nothing else fits a draft model to a device under `--fit off`."""
    number = -1 if value in {"auto", "all"} else int(value)
    return None if number < 0 else number


def _spec_types(reading: _Reading, value: str) -> None:
    """They add up; a list with `none` in it adds nothing."""
    types = value.split(",")
    for name in types:
        if name != "none" and name not in _DRAFT_LENGTH:
            raise ValueError(name)
    if "none" not in types:
        reading.spec_types += types


def _spec_default(reading: _Reading, _: str) -> None:
    reading.spec_types.append("ngram-mod")


def _override(reading: _Reading, value: str) -> None:
    reading.overrides += parse_rules(value)


def _all_experts(reading: _Reading, _: str) -> None:
    reading.overrides.append(TensorOverride(pattern=EXPERTS, where=HOST))


def _first_experts(reading: _Reading, value: str) -> None:
    if int(value) < 0:
        raise ValueError(value)
    for block in range(min(int(value), MOST_BLOCKS)):
        reading.overrides.append(TensorOverride(pattern=rf"blk\.{block}{EXPERTS}", where=HOST))


def _on_host(reading: _Reading, _: str) -> None:
    reading.projector["where"] = HOST


def _on_device(reading: _Reading, _: str) -> None:
    """Undoes its opposite."""
    if reading.projector.get("where") == HOST:
        del reading.projector["where"]


_HANDLERS: dict[str, _Handler] = {
    "-md": _draft("path", str),
    "-hfd": _draft("remote", "hf:{}".format),
    "-devd": _draft("devices", _devices),
    "-ngld": _draft("n_gpu_layers", _layers),
    "-ctkd": _draft("cache_type_k", CacheType),
    "-ctvd": _draft("cache_type_v", CacheType),
    "-otd": _override,
    "-cmoed": _all_experts,
    "-ncmoed": _first_experts,
    "-mm": _projector("path", str),
    "-mmu": _projector("remote", str),
    "-mmdev": _projector("where", _one_device),
    "--image-min-tokens": _projector("image_min_tokens", int),
    "--image-max-tokens": _projector("image_max_tokens", int),
    "--no-mmproj-offload": _on_host,
    "--mmproj-offload": _on_device,
    "--spec-type": _spec_types,
    "--spec-default": _spec_default,
}
_BARE = frozenset({"-cmoed", "--no-mmproj-offload", "--mmproj-offload", "--spec-default"})
