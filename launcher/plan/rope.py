"""How long one request can be: the context a model was trained for, or what flags on RoPE make of it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Scaling(StrEnum):
    """llama-server's `--rope-scaling` values."""

    NONE = "none"
    LINEAR = "linear"
    YARN = "yarn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """What was asked for; None is left to the model. `freq_scale` is `--rope-freq-scale`, or one over `--rope-scale`;
    `trained` the training context that `--override-kv` puts in the file's place."""

    scaling: Scaling | None = None
    freq_scale: float | None = None
    original_ctx: int | None = None
    trained: int | None = None


def context_limit(metadata: Mapping[str, Any], rope: Rope) -> int:
    """Tokens at which llama-server caps a request (tools/server/server-context.cpp, n_ctx_slot, at 0c1e570): the training
    context, which YaRN replaces where it scales otherwise than the file says (src/llama-context.cpp,
    llama_init_from_model). Other scalings change nothing here. 0 where the file names none."""
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
    """The context that YaRN's factor is counted from."""
    name = metadata.get("general.architecture")
    original = metadata.get(f"{name}.rope.scaling.original_context_length")
    return int(rope.original_ctx or original or rope.trained or metadata.get(f"{name}.context_length") or 0)


def yarn_flags(metadata: Mapping[str, Any], n_tokens: int) -> str | None:
    """Flags under which a request may have so many tokens: a power of two, which float divides by exactly."""
    original = original_ctx(metadata, Rope())
    if original < 1:
        return None
    factor = 2
    while original * factor < n_tokens:
        factor *= 2
    lifted = context_limit(metadata, Rope(scaling=Scaling.YARN, freq_scale=1 / factor))
    return f"--rope-scaling yarn --rope-scale {factor}" if lifted >= n_tokens else None


def _single(value: float) -> float:
    """As a C float holds it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])
