"""Sans-IO GGUF header reader: bytes in, `Header` or `NeedMore` out. It opens nothing and trusts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.gguf.ggml import GgmlType


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedArray:
    """An array that was checked and stepped over (the tokenizer's): element type id and length."""

    element_type: int
    length: int


Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...] | SkippedArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor as its header describes it. `shape` is ggml's ne order (row length first); `offset` is
    relative to the header's `data_offset`; `size_bytes` is without padding."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedMore:
    """The bytes so far are a good beginning; at least `n_bytes` from the file's start are needed."""

    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything before the tensor data. `data_offset` is where data begins; `end` where it must end."""

    version: int
    alignment: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    end: int


def parse_header(data: bytes | memoryview) -> Header | NeedMore:
    """Read a header from the first bytes of a file.

    Raises BadGguf for anything llama.cpp's own reader refuses (ggml/src/gguf.cpp).
    """
    raise NotImplementedError
