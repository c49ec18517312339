"""What file names say: shards, quant labels, which files are one model. What the tensors are is `anatomy`'s.

Naming rules: llama.cpp's `get_gguf_split_info` and `gguf_filename_is_model` (common/download.cpp, 0c1e570) and
the repositories people use (unsloth, bartowski, ggml-org, ubergarm, AesSedai, mradermacher).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.errors import UsageError

_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_LABEL = re.compile(
    r"(?:^|(?<=[-._/]))"
    r"(?P<prefix>UD-|smol-)?"
    r"(?P<quant>I?Q\d+_[A-Z0-9]+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32)"
    r"(?=$|[-.])",
    re.IGNORECASE,
)
_SIDECARS = ("mtp-", "eagle3-", "dflash-", "dspark-", "mtp-draft", "-draft-mtp")
_SPELLINGS = {"FP16": "F16", "FP32": "F32"}

_SHORT = {
    "INT4": ("Q4_X", "UD-Q4_K_XL"),
    "MXFP4": ("MXFP4_MOE",),
    "MXFP4_MOE": ("MXFP4",),
}
"""Names people use for a quant of another name, best first. INT4 is Kimi's own release format: Q4_X is its
lossless repack, UD-Q4_K_XL the nearest published one."""

_DEFAULTS = ("Q4_K_M", "Q8_0")
"""What llama.cpp's `-hf` takes where no quant is named (find_best_model, common/download.cpp)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardName:
    """`stem-00001-of-00003.gguf`: `index` counts from 1; `stem` keeps its folder."""

    stem: str
    index: int
    count: int

    def sibling(self, index: int) -> str:
        return f"{self.stem}-{index:05d}-of-{self.count:05d}.gguf"

    @property
    def all_names(self) -> tuple[str, ...]:
        return tuple(self.sibling(index) for index in range(1, self.count + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGroup:
    """The files of one quant of one model, in shard order, as (name, size in bytes); `missing` shards by name.

    `label` is the quant the name claims, or the name itself where it claims none.
    """

    label: str
    files: tuple[tuple[str, int], ...]
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.files)

    @property
    def is_complete(self) -> bool:
        return not self.missing


def shard_name(file: str) -> ShardName | None:
    """Take a shard's name apart (`llama_split_prefix`, src/llama.cpp); None for a file that is whole."""
    match = _SHARD.fullmatch(file)
    if match is None:
        return None
    index, count = int(match["index"]), int(match["count"])
    return ShardName(stem=match["stem"], index=index, count=count) if 1 <= index <= count else None


def quant_label(file_name: str) -> str | None:
    """The quant a file's name claims: `UD-TQ1_0`, `Q4_K_M`, `MXFP4`; else its folder's; None where neither does.

    The last one counts: `Qwen3-235B-A22B-mix-IQ3_K` is an IQ3_K.
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
    """Whether a file is (a shard of) a model: no projector, importance matrix, draft head, no raw part."""
    name = file.rpartition("/")[2].lower()
    if not name.endswith(".gguf") or "mmproj" in name or "imatrix" in name:
        return False
    return not name.startswith(_SIDECARS) and not any(mark in name for mark in _SIDECARS[4:])


def group_files(files: Iterable[tuple[str, int]]) -> tuple[FileGroup, ...]:
    """Put (name, size) of a folder or repo into models, sidecars left out, ordered by size."""
    whole: list[FileGroup] = []
    split: dict[tuple[str, int], dict[int, tuple[str, int]]] = {}
    for name, size in files:
        if not is_model_file(name):
            continue
        shard = shard_name(name)
        if shard is None:
            whole.append(FileGroup(label=_label(name), files=((name, size),)))
        else:
            split.setdefault((shard.stem, shard.count), {})[shard.index] = (name, size)
    sets = [_shard_set(stem, count, found) for (stem, count), found in split.items()]
    return tuple(sorted(whole + sets, key=lambda group: (group.size_bytes, group.names)))


def group_all(files: Iterable[tuple[str, int]]) -> tuple[FileGroup, ...]:
    """The models among these files, and after them every other GGUF file (a projector, a draft head), called by its name."""
    listed = tuple(files)
    others = (
        FileGroup(label=name, files=((name, size),))
        for name, size in listed
        if name.lower().endswith(".gguf") and not is_model_file(name)
    )
    return (*group_files(listed), *others)


def _shard_set(stem: str, count: int, found: dict[int, tuple[str, int]]) -> FileGroup:
    names = ShardName(stem=stem, index=1, count=count)
    return FileGroup(
        label=_label(names.sibling(1)),
        files=tuple(found[index] for index in sorted(found)),
        missing=tuple(names.sibling(index) for index in range(1, count + 1) if index not in found),
    )


def _label(name: str) -> str:
    shard = shard_name(name)
    stem = shard.stem if shard else name[: -len(".gguf")]
    return quant_label(name) or stem.rpartition("/")[2]


def pick_group(groups: Iterable[FileGroup], wanted: str | None) -> FileGroup | None:
    """The group a user means: by label in any case, with `UD-` left out, by a short name (INT4), or by a file's or folder's name.

    Without `wanted`: the only group, or what llama.cpp would take. A complete group wins over an incomplete one.
    None where nothing matches; UsageError where two models match equally.
    """
    candidates = tuple(groups)
    if wanted is None:
        if len(candidates) == 1:
            return candidates[0]
        picks = (_named(candidates, label) for label in _DEFAULTS)
        return next((pick for pick in picks if pick), None) or _unless_ambiguous(candidates[:1], "")
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
    return None


def pick_head(names: Iterable[str], kinds: Iterable[str], quant: str | None) -> tuple[str, str] | None:
    """The draft head of the first of these kinds (`mtp`, `eagle3`) that is among a repo's files, as (kind, name); of
    several, the one whose quant is nearest (find_best_sibling, common/download.cpp). None where there is none."""
    listed = sorted(name for name in names if name.lower().endswith(".gguf"))
    wanted = (quant or _DEFAULTS[0]).upper()
    for kind in kinds:
        heads = [name for name in listed if f"{kind}-" in name]
        if heads:
            return kind, min(heads, key=lambda name: abs(_bits(quant_label(name)) - _bits(wanted)))
    return None


def _bits(label: str | None) -> int:
    digits = re.search(r"\d+", label or "")
    return int(digits[0]) if digits else 0


def _named(groups: tuple[FileGroup, ...], label: str) -> FileGroup | None:
    return _unless_ambiguous([group for group in groups if group.label.upper() == label.upper()], label)


def _unless_ambiguous(groups: Iterable[FileGroup], wanted: str) -> FileGroup | None:
    found = sorted(groups, key=lambda group: not group.is_complete)
    best = [group for group in found if group.is_complete == found[0].is_complete]
    if len(best) > 1:
        names = ", ".join(group.names[0] for group in best)
        raise UsageError(
            f"{wanted} names {len(best)} models here: {names}", hint="name the file instead of the quant"
        )
    return best[0] if best else None
