"""Describe a hollow copy of a shard: its true header, its true size, and no weights."""

# llama.cpp loads the metadata from it and checks only that the tensors lie within the file
# (`llama_tensor_weight`, src/llama-model-loader.h), so a sparse file of a few MB stands for a shard of 50
# GB. models/store writes it.

from __future__ import annotations

from dataclasses import dataclass

from launcher.errors import BadGguf
from launcher.gguf.header import Header


@dataclass(frozen=True, slots=True, kw_only=True)
class HollowFile:
    """A file to be: `content` at the start, then a hole up to `size_bytes`."""

    content: bytes
    size_bytes: int


def hollow_copy(header: Header, raw_header: bytes, size_bytes: int) -> HollowFile:
    """Return the hollow copy of a shard; `raw_header` holds the bytes that `header` was read from.

    Raises BadGguf if `raw_header` is too short, or the tensors do not fit into the size.
    """
    if len(raw_header) < header.data_offset:
        raise BadGguf(f"a header of {header.data_offset} bytes was cut to {len(raw_header)}")
    if header.end > size_bytes:
        raise BadGguf(f"the tensors end at byte {header.end}, and the file has {size_bytes}")
    return HollowFile(content=raw_header[: header.data_offset], size_bytes=size_bytes)
