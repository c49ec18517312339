"""Predict how long a core takes for one cached token of an attention head. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.machine.measured import attention_key

# Seconds of one core for a head's product with a cached key, the exponential, and the value added up
# (ggml_compute_forward_flash_attn_ext_f16_one_chunk, ggml-cpu/ops.cpp): measured with F16 caches on an EPYC
# 9004 with AVX-512, 20, 31, 53 and 93 ns for heads of 64, 128, 256 and 544 values.
_HEAD_S = 11e-9
_VALUE_S = 0.076e-9
# How much longer other types take, unpacked as they are read: the same processor, heads of 128 values.
_TIMES = {"f16": 1.0, "f32": 1.0, "bf16": 1.25, "q8_0": 1.45}
_TIMES_OF_OTHERS = 3.0  # Q4_0

# What probe --measure measures: types, and values of a head; 544 are MLA's, the mean of key and value.
_MEASURED = {"f16": "F16", "f32": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
_MEASURED_FOR_OTHERS = "Q4_0"
_SIZES = (64, 128, 256, 544)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTime:
    """Seconds of one core for one cached token."""

    near: float  # of a query head, keys and values being in the core's cache
    far: float | None = None  # more, once for each head of the cache that comes from RAM; None: not measured


def head_time(head_size: int, kind: str, rates: Mapping[str, int], factor: float = 1.0) -> HeadTime:
    """Return the time for a head of so many values: as measured, else `factor` times the usual.

    `rates` are cached tokens a second, by `attention_key`.
    """
    name = _MEASURED.get(kind, _MEASURED_FOR_OTHERS)
    near, far = (
        _between(head_size, {size: rates.get(attention_key(name, size, far=is_far)) for size in _SIZES})
        for is_far in (False, True)
    )
    if near is None:
        seconds = (_HEAD_S + _VALUE_S * 2 * head_size) * _TIMES.get(kind, _TIMES_OF_OTHERS)
        return HeadTime(near=seconds * factor)
    return HeadTime(near=near, far=None if far is None else max(far - near, 0.0))


def _between(size: int, rates: Mapping[int, int | None]) -> float | None:
    """Interpolate seconds over head sizes; beyond them they grow with the values."""
    times = {known: 1 / rate for known, rate in rates.items() if rate is not None}
    below = max((known for known in times if known <= size), default=None)
    above = min((known for known in times if known >= size), default=None)
    if below is None or above is None:
        nearest = above if below is None else below
        return None if nearest is None else times[nearest] * size / nearest
    if below == above:
        return times[below]
    return times[below] + (times[above] - times[below]) * (size - below) / (above - below)
