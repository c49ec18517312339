"""Read file names: shards, quant labels, which files make one model."""

# Naming rules: llama.cpp's `get_gguf_split_info` and `gguf_filename_is_model` (common/download.cpp,
# 0c1e570), and the repositories people use (unsloth, bartowski, ggml-org, ubergarm, AesSedai,
# mradermacher).

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.errors import BadGguf, UsageError
from launcher.gguf.companion_names import PROJECTOR, companion_kind, likely_kind, model_names

_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE | re.ASCII)
_LABEL = re.compile(
    r"(?:^|(?<=[-._/]))"
    r"(?P<prefix>UD-|smol-)?"
    r"(?P<quant>I?Q\d+_[A-Z0-9]+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32|I?Q\d$)"
    r"(?=$|[-.])",
    re.IGNORECASE | re.ASCII,
)
_SPELLINGS = {"FP16": "F16", "FP32": "F32"}

# Names people use for a quant of another name, best first. INT4 is Kimi's own release format: Q4_X is its
# lossless repack, UD-Q4_K_XL the nearest published one.
_SHORT = {
    "INT4": ("Q4_X", "UD-Q4_K_XL"),
    "MXFP4": ("MXFP4_MOE",),
    "MXFP4_MOE": ("MXFP4",),
}

# of one model; Thireus publishes 1,148 for some quants, and no other repo known has more than 200
MAX_SHARDS = 2048

# what llama.cpp's -hf takes if no quant is named (find_best_model, common/download.cpp)
_DEFAULTS = ("Q4_K_M", "Q8_0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardName:
    """The name of a shard, `stem-00001-of-00003.gguf`, in parts."""

    stem: str  # with its folder
    index: int  # from 1
    count: int

    def sibling(self, index: int) -> str:
        return f"{self.stem}-{index:05d}-of-{self.count:05d}.gguf"

    def all_names(self) -> tuple[str, ...]:
        """Return the names of all shards. Raises BadGguf if that is more than any model has."""
        if self.count > MAX_SHARDS:
            raise BadGguf(
                f"{self.sibling(self.index)} names itself one of {self.count} shards, "
                f"and {MAX_SHARDS} are the most",
                hint="name the first shard of a model, or a file that is whole",
            )
        return tuple(self.sibling(index) for index in range(1, self.count + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGroup:
    """The files of one quant of one model."""

    label: str  # the quant that the name claims, or the name itself if it claims none
    files: tuple[tuple[str, int], ...]  # (name, size in bytes) in shard order
    n_missing: int = 0  # shards that are not there
    first_missing: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.files)

    @property
    def is_complete(self) -> bool:
        return not self.n_missing


def shard_name(file: str) -> ShardName | None:
    """Split the name of a shard (`llama_split_prefix`, src/llama.cpp); None for a whole file."""
    match = _SHARD.fullmatch(file)
    if match is None:
        return None
    index, count = int(match["index"]), int(match["count"])
    return ShardName(stem=match["stem"], index=index, count=count) if 1 <= index <= count else None


def quant_label(file_name: str) -> str | None:
    """Return the quant that a file's name claims (`UD-TQ1_0`, `MXFP4`), or else its folder's name.

    None if neither claims any. The last quant in a name counts: `Qwen3-235B-A22B-mix-IQ3_K` is an IQ3_K.
    """
    shard = shard_name(file_name)
    path = shard.stem if shard else re.sub(r"\.gguf$", "", file_name, flags=re.IGNORECASE)
    for part in reversed(path.split("/")):
        matches = list(_LABEL.finditer(part))
        if matches:
            quant = matches[-1]["quant"].upper()
            prefix = (matches[-1]["prefix"] or "").lower()
            return {"ud-": "UD-"}.get(prefix, prefix) + _SPELLINGS.get(quant, quant)
    return None


def model_name(file_name: str) -> str:
    """Return a model's name from that of its first file: no folder, shard number or ending."""
    base = file_name.rpartition("/")[2]
    shard = shard_name(base)
    if shard is not None:
        return shard.stem
    return base[: -len(".gguf")] if base.lower().endswith(".gguf") else base


def is_model_file(file: str) -> bool:
    """Return False for names of projectors, importance matrices, draft heads and of no GGUF.

    A listing tells more than a name: see `group_files`.
    """
    return file.lower().endswith(".gguf") and companion_kind(file) is None


def group_files(files: Iterable[tuple[str, int]]) -> tuple[FileGroup, ...]:
    """Group the (name, size) pairs of a folder or repo into models, sidecars left out, smallest first."""
    whole: list[FileGroup] = []
    shards: dict[tuple[str, int], dict[int, tuple[str, int]]] = {}
    listed = tuple(files)
    models = model_names(listed)
    for name, size in listed:
        if name not in models:
            continue
        shard = shard_name(name)
        if shard is None:
            whole.append(FileGroup(label=_label(name), files=((name, size),)))
        else:
            shards.setdefault((shard.stem, shard.count), {})[shard.index] = (name, size)
    sets = [_shard_set(stem, count, by_index) for (stem, count), by_index in shards.items()]
    return tuple(sorted(whole + sets, key=lambda group: (group.size_bytes, group.names)))


def group_all(files: Iterable[tuple[str, int]]) -> tuple[FileGroup, ...]:
    """Group files into models, then every other GGUF file (projector, draft head) by its name."""
    listed = tuple(files)
    groups = group_files(listed)
    models = {name for group in groups for name in group.names}
    others = (
        FileGroup(label=name, files=((name, size),))
        for name, size in listed
        if name.lower().endswith(".gguf") and name not in models
    )
    return (*groups, *others)


def _shard_set(stem: str, count: int, by_index: dict[int, tuple[str, int]]) -> FileGroup:
    names = ShardName(stem=stem, index=1, count=count)
    # the name may claim any count, so not every missing one is named
    first = next((index for index in range(1, count + 1) if index not in by_index), None)
    return FileGroup(
        label=_label(names.sibling(1)),
        files=tuple(by_index[index] for index in sorted(by_index)),
        n_missing=count - len(by_index),
        first_missing="" if first is None else names.sibling(first),
    )


def _label(name: str) -> str:
    shard = shard_name(name)
    stem = shard.stem if shard else name[: -len(".gguf")]
    return quant_label(name) or stem.rpartition("/")[2]


def pick_group(groups: Iterable[FileGroup], wanted: str | None) -> FileGroup | None:
    """Return the group that a user means; None if there is none.

    `wanted` is a label in any case, with or without `UD-`, a short name (INT4), or a file's or folder's
    name, or a part of one group's names. Without it: the only group, or llama.cpp's choice. Complete groups
    win. Raises UsageError if two match equally.
    """
    candidates = tuple(groups)
    if wanted is None:
        if len(candidates) == 1:
            return candidates[0]
        picks = (_named(candidates, label) for label in _DEFAULTS)
        pick = next((pick for pick in picks if pick), None)
        return pick or (_named(candidates, candidates[0].label) if candidates else None)
    by_file = [
        group
        for group in candidates
        if any(wanted in {name, name.rpartition("/")[0], name.rpartition("/")[2]} for name in group.names)
    ]
    if by_file:
        return _unless_ambiguous(by_file, wanted)
    upper = _SPELLINGS.get(wanted.upper(), wanted.upper())
    for label in (upper, f"UD-{upper}", *_SHORT.get(upper, ())):
        if (pick := _named(candidates, label)) is not None:
            return pick
    if _LABEL.fullmatch(wanted):
        return None  # a quant is never a part: Kimi-K2-BF16-384x14B-Q2_K_S is no BF16
    # a part of one model's name, as llama-server takes it (find_best_model): Q6_K-PT-MTP beside Q6_K-MTP
    part = re.compile(rf"(?<![A-Z0-9]){re.escape(wanted)}[.-]", re.IGNORECASE)
    named = [group for group in candidates if any(part.search(name) for name in group.names)]
    return named[0] if len(named) == 1 else None


def pick_head(names: Iterable[str], kinds: Iterable[str], quant: str | None) -> tuple[str, str] | None:
    """Return (kind, name) of a repo's draft head, of the first of `kinds` (`mtp`, `eagle3`) there is.

    Of several, the head whose quant is nearest to `quant` (find_best_sibling, common/download.cpp).
    """
    listed = sorted(name for name in names if name.lower().endswith(".gguf"))
    wanted = (quant or _DEFAULTS[0]).upper()
    for kind in kinds:
        heads = [name for name in listed if f"{kind}-" in name]
        heads = heads or [name for name in listed if likely_kind(name) == kind]
        if heads:
            return kind, min(heads, key=lambda name: abs(_bits(quant_label(name)) - _bits(wanted)))
    return None


def pick_projector(names: Iterable[str], quant: str) -> str | None:
    """Return the projector whose quant is nearest to `quant`, as llama.cpp's find_best_sibling does."""
    listed = sorted(name for name in names if companion_kind(name) == PROJECTOR)
    return min(listed, key=lambda name: abs(_bits(quant_label(name)) - _bits(quant)), default=None)


def _bits(label: str | None) -> int:
    digits = re.search(r"[0-9]+", label or "")
    return int(digits[0]) if digits else 0


def _named(groups: tuple[FileGroup, ...], label: str) -> FileGroup | None:
    return _unless_ambiguous([group for group in groups if group.label.upper() == label.upper()], label)


def _unless_ambiguous(groups: Iterable[FileGroup], wanted: str) -> FileGroup | None:
    ordered = sorted(groups, key=lambda group: not group.is_complete)
    best = [group for group in ordered if group.is_complete == ordered[0].is_complete]
    if len(best) > 1:
        names = ", ".join(group.names[0] for group in best)
        raise UsageError(
            f"{wanted} names {len(best)} models here: {names}", hint="name the file instead of the quant"
        )
    return best[0] if best else None
