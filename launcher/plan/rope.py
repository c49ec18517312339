"""Tell how long one request can be: the trained context, or what RoPE flags make of it. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Scaling(StrEnum):
    NONE = "none"
    LINEAR = "linear"
    YARN = "yarn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """RoPE scaling that flags ask for; None leaves a value to the model."""

    scaling: Scaling | None = None
    freq_scale: float | None = None  # `--rope-freq-scale`, or one over `--rope-scale`
    original_ctx: int | None = None
    trained: int | None = None  # training context from `--override-kv`, instead of the file's


def context_limit(metadata: Mapping[str, Any], rope: Rope) -> int:
    """Return the tokens at which llama-server caps a request; 0 if the file names no training context."""
    # The training context (tools/server/server-context.cpp, n_ctx_slot, at 0c1e570). YaRN changes it where
    # it scales otherwise than the file says (src/llama-context.cpp, llama_init_from_model); other scalings
    # do not.
    name = metadata.get("general.architecture")

    def number(key: str) -> float:
        value = metadata.get(f"{name}.{key}")
        return value if isinstance(value, int | float) else 0

    trained = rope.trained or int(number("context_length"))
    factor = number("rope.scaling.factor") or number("rope.scale_linear")
    usual = _single(1 / factor) if factor else 1.0
    scale = usual if not rope.freq_scale else _single(rope.freq_scale)
    scaling = rope.scaling or metadata.get(f"{name}.rope.scaling.type")
    if scaling != Scaling.YARN or scale == usual:
        return trained
    return int(_single(original_ctx(metadata, rope) / scale))


def original_ctx(metadata: Mapping[str, Any], rope: Rope) -> int:
    """Return the context that YaRN's factor multiplies."""
    name = metadata.get("general.architecture")
    original = metadata.get(f"{name}.rope.scaling.original_context_length")
    return int(rope.original_ctx or original or rope.trained or metadata.get(f"{name}.context_length") or 0)


def yarn_flags(metadata: Mapping[str, Any], n_tokens: int) -> str | None:
    """Return flags with which a request may have `n_tokens`, None if none would do."""
    original = original_ctx(metadata, Rope())
    if original < 1:
        return None
    factor = 2  # powers of two, by which a float divides exactly
    while original * factor < n_tokens:
        factor *= 2
    lifted = context_limit(metadata, Rope(scaling=Scaling.YARN, freq_scale=1 / factor))
    return f"--rope-scaling yarn --rope-scale {factor}" if lifted >= n_tokens else None


def _single(value: float) -> float:
    """Round to the precision of a C float."""
    return float(struct.unpack("f", struct.pack("f", value))[0])
