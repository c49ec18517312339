"""A hollow copy of a shard: its true header, its true size, and no weights.

llama.cpp loads metadata from it and checks only that tensors lie within the file (`llama_tensor_weight`,
src/llama-model-loader.h), so a sparse file of a few MB stands for a shard of 50 GB. Who writes it is `hub`.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.errors import BadGguf
from launcher.gguf.header import Header


@dataclass(frozen=True, slots=True, kw_only=True)
class HollowFile:
    """Write `content` at the start of an empty file, then truncate it to `size_bytes`."""

    content: bytes
    size_bytes: int


def hollow_copy(header: Header, raw_header: bytes, size_bytes: int) -> HollowFile:
    """What a hollow copy of a shard of `size_bytes` consists of; `raw_header` are the bytes `header` was read
    from. Raises BadGguf if the bytes are too few, or the tensors do not fit into the size."""
    if len(raw_header) < header.data_offset:
        raise BadGguf(f"a header of {header.data_offset} bytes was cut to {len(raw_header)}")
    if header.end > size_bytes:
        raise BadGguf(f"the tensors end at byte {header.end}, and the file has {size_bytes}")
    return HollowFile(content=raw_header[: header.data_offset], size_bytes=size_bytes)
