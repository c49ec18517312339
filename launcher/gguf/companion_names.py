"""Tell projectors, importance matrices and draft models from models, by the names in a listing. Pure."""

# llama.cpp leaves out names with mmproj, imatrix, mtp-, eagle3-, dflash- or dspark- (gguf_filename_is_model,
# common/download.cpp). Repositories name such files in other ways, too, and some models like them:
# `MTP/…-Q8_0-MTP.gguf` is a head (ggml-org/llama.cpp#24443), `…-MTP-Q6_K.gguf` a model with its head in it
# (#27201), `…-chat-v2-imatrix.gguf` a model (PR #24162).

from __future__ import annotations

import re
from collections.abc import Iterable

# kinds of draft heads, in the order in which llama-server takes one of a repo (common/arg.cpp)
DRAFT_KINDS = ("mtp", "dspark", "dflash", "eagle3")

_DRAFT = "draft"
PROJECTOR = "projector"
_MATRIX = "imatrix"

# names that are never a model's
_PROJECTOR_NAME = re.compile(r"mm-?proj|mm[-_]projector")
_MATRIX_NAME = re.compile(r"^imatrix")
_HEAD_NAME = re.compile(r"^(mtp|eagle3|dflash|dspark)-|[-_.](mtp)-draft|-draft-(mtp)|^(mtp)-draft")

# names that are a companion's if there is a model beside them
_FOLDER = re.compile(
    r"(mtp|eagle-?3?|dflash-?\d*|dspark-?\d*|nextn|assistant|drafts?|draft[-_]models?|speculators?)"
    r"([-_](heads?|drafts?|gguf))?|(heads?)"
)
_KIND = re.compile(r"(?:^|[-_.])(eagle-?3|dflash|dspark|nextn|draft|assistant)\d*(?=$|[-_.])")
_MTP = re.compile(r"[-_.](mtp)(?=$|[-_.](?:head|heads|draft|module|only|shared)(?=$|[-_.]))")
_MATRIX_INSIDE = re.compile(r"(?:^|[-_.])imatrix(?=$|[-_.])")
_QUANT = re.compile(r"(?:^|[-_.])i?q\d", re.IGNORECASE)
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")

# Of the largest file beside it: a matrix has two numbers a column where a model has a row of weights (30 to
# 160 times less in published repositories), and no repository's smallest quant is so far from its largest.
_MATRIX_SHARE = 40


def companion_kind(path: str) -> str | None:
    """Return what a name certainly is besides a model: projector, imatrix, mtp, eagle3, …; else None."""
    stem = _stem(path)
    *folders, _ = path.lower().split("/")
    if _PROJECTOR_NAME.search(stem) or "mmproj" in folders:
        return PROJECTOR
    if _MATRIX_NAME.search(stem) or (_MATRIX_INSIDE.search(stem) and not _QUANT.search(stem)):
        return _MATRIX
    head = _HEAD_NAME.search(stem)
    return next(filter(None, head.groups())) if head else None


def likely_kind(path: str) -> str | None:
    """Return what a name is if a model is beside it; None for a name like a model's."""
    certain = companion_kind(path)
    if certain is not None:
        return certain
    stem = _stem(path)
    *folders, _ = path.lower().split("/")
    head = _KIND.search(stem) or _MTP.search(stem)
    folder = next(filter(None, (_FOLDER.fullmatch(name) for name in folders)), None)
    if head is not None:
        return _plain(head[1])
    if folder is not None:
        return _plain(folder[1] or _DRAFT)
    return _MATRIX if _MATRIX_INSIDE.search(stem) else None


def model_names(files: Iterable[tuple[str, int]]) -> frozenset[str]:
    """Return which of the (name, size) pairs of a folder or repo are models' files."""
    named = {name: size for name, size in files if name.lower().endswith(".gguf")}
    kinds = {name: likely_kind(name) for name in named}
    sure = {name for name, kind in kinds.items() if kind is None}
    largest = max((named[name] for name in sure), default=0)
    matrices = {name for name, kind in kinds.items() if kind == _MATRIX and companion_kind(name) is None}
    sure |= {name for name in matrices if named[name] * _MATRIX_SHARE >= largest}
    if sure:
        return frozenset(sure)
    # nothing else is there: the repository is about them
    unsure = {name for name in named if companion_kind(name) is None}
    alone = {
        name for name in named if companion_kind(name) == _MATRIX and not _MATRIX_NAME.search(_stem(name))
    }
    return frozenset(unsure or alone)


def _stem(path: str) -> str:
    return _SHARD.sub("", path.lower().rpartition("/")[2].removesuffix(".gguf"))


def _plain(kind: str) -> str:
    name = kind.replace("-", "").replace("_", "").rstrip("0123456789")
    return {"eagle": "eagle3", "nextn": "mtp", "assistant": "mtp", "drafts": _DRAFT}.get(name, name)
