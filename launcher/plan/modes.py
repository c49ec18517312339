"""llama-server's choices as values: how weights are loaded, cache types, NUMA, splits, flash attention. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SplitMode(StrEnum):
    """How several devices share a model; llama-server's `--split-mode` values."""

    NONE = "none"
    LAYER = "layer"
    ROW = "row"
    TENSOR = "tensor"


class FlashAttention(StrEnum):
    """llama-server's `--flash-attn` values. AUTO is on wherever every device can run it."""

    ON = "on"
    OFF = "off"
    AUTO = "auto"

    @property
    def switch(self) -> bool | None:
        """True, False, or None for AUTO: how JSON documents write it."""
        return None if self is FlashAttention.AUTO else self is FlashAttention.ON


class LoadMode(StrEnum):
    """How weights get into memory; llama-server's `--load-mode` values (`mmap+mlock`, `dio` are not planned)."""

    MMAP = "mmap"
    NONE = "none"
    MLOCK = "mlock"


class CacheType(StrEnum):
    """KV cache element types llama-server takes (common/arg.cpp, kv_cache_types)."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    Q4_1 = "q4_1"
    IQ4_NL = "iq4_nl"
    Q5_0 = "q5_0"
    Q5_1 = "q5_1"


class NumaMode(StrEnum):
    """llama-server's `--numa` values, and `off` for none."""

    DISTRIBUTE = "distribute"
    ISOLATE = "isolate"
    NUMACTL = "numactl"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOverride:
    """Tensors whose name `pattern` (std::regex, searched, first match wins) finds go to `where`: a device's
    id, or HOST."""

    pattern: str
    where: str
