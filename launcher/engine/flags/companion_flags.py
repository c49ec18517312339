"""Read the flags after `--` that load companions: a draft model, a multimodal projector. Pure.

Spellings, values and defaults from llama.cpp common/arg.cpp and common/common.h, 0c1e570. The last of equal
flags wins; overrides and --spec-type add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.engine.flags.memory_flags import MOST_BLOCKS
from launcher.engine.flags.user_flags import split_flags
from launcher.errors import UsageError
from launcher.plan.amounts import HOST
from launcher.plan.companions import MTP, CompanionRequest, DraftRequest, MtpRequest, ProjectorRequest
from launcher.plan.expert_pattern import EXPERTS
from launcher.plan.modes import CacheType, TensorOverride
from launcher.plan.overrides import parse_rules

_DRAFT_MODEL_TYPES = ("draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark")
# For each --spec-type the flag and the default of how many tokens it drafts at once
# (common_speculative_n_max, common/speculative.cpp). A draft model without --spec-type is loaded and drafts
# nothing.
_DRAFT_LENGTH: dict[str, tuple[str | None, int]] = {
    **dict.fromkeys(_DRAFT_MODEL_TYPES, ("--spec-draft-n-max", 3)),
    "ngram-simple": ("--spec-ngram-simple-size-m", 48),
    "ngram-map-k": ("--spec-ngram-map-k-size-m", 48),
    "ngram-map-k4v": ("--spec-ngram-map-k4v-size-m", 48),
    "ngram-mod": ("--spec-ngram-mod-n-max", 64),
    "ngram-cache": (None, 8),
}
# Flags for a file that llama-server would download, and those for the same file by its path.
_LOCAL_FLAG = {"-hfd": "-md", "-mmu": "-mm"}

COMPANION_FILE_FLAGS = frozenset(_LOCAL_FLAG) | frozenset(_LOCAL_FLAG.values())

# The spellings that llama-server has had the longest.
_OLDEST_SPELLING = {"-md": "-md", "-mm": "--mmproj"}

_LENGTH_FLAGS = frozenset(flag for flag, _ in _DRAFT_LENGTH.values() if flag is not None)


@dataclass(slots=True)
class _Reading:
    """The flags as far as they have been read."""

    draft: dict[str, Any] = field(default_factory=dict)
    projector: dict[str, Any] = field(default_factory=dict)
    overrides: list[TensorOverride] = field(default_factory=list)
    spec_types: list[str] = field(default_factory=list)
    lengths: dict[str, int] = field(default_factory=dict)
    backend_sampling: bool = True


_Handler = Callable[[_Reading, str], None]


def read_companions(flags: Sequence[str]) -> CompanionRequest:
    """Return the companions that these flags load. Raises UsageError for values llama-server would refuse."""
    reading = _Reading()
    for name, words in split_flags(flags):
        handler = _HANDLERS.get(name)
        if handler is None and name not in _LENGTH_FLAGS:
            continue
        n_values = 0 if name in _SWITCHES else 1
        if len(words) != 1 + n_values:
            raise UsageError(f"{words[0]} after -- takes {'no value' if name in _SWITCHES else 'one value'}")
        value = words[1] if n_values else ""
        try:
            if handler is None:
                reading.lengths[name] = int(value)
            else:
                handler(reading, value)
        except (KeyError, ValueError):
            raise UsageError(f"{' '.join(words)} after -- is nothing llama-server would take") from None
    return _companion_request(reading)


def names_remote_file(flags: Sequence[str]) -> bool:
    """Tell if these flags name a file that llama-server would download."""
    return any(name in _LOCAL_FLAG for name, _ in split_flags(flags))


def is_companion_flag(name: str) -> bool:
    """Tell if `read_companions` reads a flag of this name (as `split_flags` gives it)."""
    return name in _HANDLERS or name in _LENGTH_FLAGS


def with_local_file(flags: Sequence[str], flag: str, path: str, also: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the flags with the path of a fetched companion instead of its source.

    `flag` is `-md` or `-mm`; the words in `also` follow the path.
    """
    others = [
        word for name, words in split_flags(flags) if _LOCAL_FLAG.get(name, name) != flag for word in words
    ]
    return (*others, _OLDEST_SPELLING[flag], path, *also)


def _companion_request(reading: _Reading) -> CompanionRequest:
    draft = mtp = projector = None
    if "remote" in reading.draft and "path" in reading.draft:  # -md then names a file of that repo
        repo = reading.draft["remote"].removeprefix("hf:").partition(":")[0]
        reading.draft["remote"] = f"hf:{repo}/{reading.draft['path']}"
    for companion in (reading.draft, reading.projector):
        if remote := companion.pop("remote", None):  # llama-server fetches it in place of the file named
            companion["path"] = remote
    types = tuple(dict.fromkeys(reading.spec_types))
    if "path" in reading.draft:
        draft = DraftRequest(overrides=tuple(reading.overrides), **reading.draft)
    elif MTP in types:  # where its layers are, the model's own flags say
        caches = {name: value for name, value in reading.draft.items() if name.startswith("cache_type")}
        mtp = MtpRequest(**caches)
    if "path" in reading.projector:
        projector = ProjectorRequest(**reading.projector)
    return CompanionRequest(
        draft=draft,
        mtp=mtp,
        projector=projector,
        spec_types=types,
        n_draft=max((_length(name, reading.lengths) for name in types), default=0),
        head_length=_length(MTP, reading.lengths) if set(types) & set(_DRAFT_MODEL_TYPES) else 0,
        backend_sampling=reading.backend_sampling,
    )


def _length(spec_type: str, lengths: Mapping[str, int]) -> int:
    flag, default = _DRAFT_LENGTH[spec_type]
    return max(lengths.get(flag, default) if flag else default, 0)


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
    # auto means all layers: under --fit off nothing fits a draft model to a device.
    number = -1 if value in {"auto", "all"} else int(value)
    return None if number < 0 else number


def _spec_types(reading: _Reading, value: str) -> None:
    # They add up; a list with `none` in it adds nothing.
    types = value.split(",")
    for name in types:
        if name != "none" and name not in _DRAFT_LENGTH:
            raise ValueError(name)
    if "none" not in types:
        reading.spec_types += types


def _spec_default(reading: _Reading, _: str) -> None:
    reading.spec_types.append("ngram-mod")


def _sample_on_device(reading: _Reading, _: str) -> None:
    reading.backend_sampling = True


def _sample_on_host(reading: _Reading, _: str) -> None:
    reading.backend_sampling = False


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
    # Undoes --no-mmproj-offload.
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
    "--spec-draft-backend-sampling": _sample_on_device,
    "--no-spec-draft-backend-sampling": _sample_on_host,
}
_SWITCHES = frozenset(
    {
        "-cmoed",
        "--no-mmproj-offload",
        "--mmproj-offload",
        "--spec-default",
        "--spec-draft-backend-sampling",
        "--no-spec-draft-backend-sampling",
    }
)
