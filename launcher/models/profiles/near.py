"""Find the profiles that a name nearly names: `llama3` is llama-3.1-8b or llama-3.2-3b."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

_MOST = 3
_LEAST_ALIKE = 0.72  # by difflib's ratio, without what `squeeze` drops


def squeeze(name: str) -> str:
    """Return letters and digits alone, small: people type `llama3`, `Qwen3_8B`, `gpt oss`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def near_names(typed: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the nearest names, best first: those that begin so, contain it, then those spelled alike."""
    plain = typed.rpartition("/")[2].partition(":")[0].lower()
    wanted = squeeze(plain)
    if not wanted:
        return ()
    # `qwen3.8` begins qwen3.8-27b as it is written, and qwen3-8b only without its dot
    scored = [(0.5 if name.startswith(plain) else _distance(wanted, squeeze(name)), name) for name in names]
    near = sorted((distance, len(name), name) for distance, name in scored if distance is not None)
    return tuple(name for _, _, name in near[:_MOST])


def _distance(wanted: str, name: str) -> float | None:
    if name == wanted:
        return 0.0
    if name.startswith(wanted) or wanted.startswith(name):
        return 1.0
    if wanted in name or name in wanted:
        return 2.0
    alike = SequenceMatcher(None, wanted, name).ratio()
    return 4.0 - alike if alike >= _LEAST_ALIKE else None
