"""llama-server's choices as enums. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Dialect(StrEnum):
    """The program that loads the model: its flags, tensor types, memory and speed."""

    LLAMA_CPP = "llama.cpp"
    IK = "ik_llama.cpp"


class SplitMode(StrEnum):
    """How several devices share a model: `--split-mode` values."""

    NONE = "none"
    LAYER = "layer"
    ROW = "row"
    TENSOR = "tensor"


class FlashAttention(StrEnum):
    """`--flash-attn` values. AUTO switches it on where every device can run it."""

    ON = "on"
    OFF = "off"
    AUTO = "auto"

    @property
    def switch(self) -> bool | None:
        """The value in JSON documents: True, False, or None for AUTO."""
        return None if self is FlashAttention.AUTO else self is FlashAttention.ON


class LoadMode(StrEnum):
    """How weights get into memory: `--load-mode` values. `mmap+mlock` and `dio` are not planned."""

    MMAP = "mmap"
    NONE = "none"
    MLOCK = "mlock"


class LazyMode(StrEnum):
    """When tables are read by rows from the file: `--lazy-mode` values. AUTO: those over 4 GiB."""

    ON = "on"
    AUTO = "auto"
    OFF = "off"


class Pooling(StrEnum):
    """How embeddings of tokens become one: `--pooling` values."""

    NONE = "none"
    MEAN = "mean"
    CLS = "cls"
    LAST = "last"
    RANK = "rank"


class CacheType(StrEnum):
    """Element types of a KV cache (common/arg.cpp, kv_cache_types)."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    Q4_1 = "q4_1"
    IQ4_NL = "iq4_nl"
    Q5_0 = "q5_0"
    Q5_1 = "q5_1"


def is_quantised(kind: CacheType) -> bool:
    return kind not in {CacheType.F32, CacheType.F16, CacheType.BF16}


class NumaMode(StrEnum):
    """`--numa` values, and `off` for none."""

    DISTRIBUTE = "distribute"
    ISOLATE = "isolate"
    NUMACTL = "numactl"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOverride:
    """A rule of `-ot`: tensors with a matching name go to one place."""

    pattern: str  # a std::regex, searched for in the name
    where: str  # a device's id, or HOST
