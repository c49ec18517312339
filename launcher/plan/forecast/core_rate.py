"""Weigh a model's types by how fast one core multiplies each, where that was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.gguf.tensors import TensorInfo
from launcher.plan.forecast.factors import CORE_RATE

_ROUTED = "_exps."  # in the name of a tensor of routed experts
_LOOKED_UP = "token_embd."


def core_rate_of(
    tensors: Iterable[TensorInfo], used_share: float, rates: Iterable[tuple[str, int]]
) -> float | None:
    """Return the bytes/s of this model's weights that a core multiplies; None if nothing was measured.

    `used_share` of routed experts is read for a token. A type that was not measured counts as usual.
    """
    by_type = dict(rates)
    if not by_type:
        return None
    read = seconds = 0.0
    for tensor in tensors:
        if len(tensor.shape) > 1 and not tensor.name.startswith(_LOOKED_UP):
            n_bytes = tensor.size_bytes * (used_share if _ROUTED in tensor.name else 1.0)
            read += n_bytes
            rate = by_type.get(tensor.type.name)
            seconds += n_bytes / (CORE_RATE if rate is None else rate)
    return read / seconds if seconds else None
