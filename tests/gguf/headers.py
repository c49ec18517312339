"""Small headers, built and read."""

from __future__ import annotations

from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Header, parse_header
from tests.builders import Tensor

SMALL = {"general.architecture": "llama", "llama.block_count": 2, "a.flag": True, "names": ["one", "two", ""]}


TWO = (Tensor("a.weight", (256, 3), GgmlType.Q4_K), Tensor("b.weight", (7,)))


def parsed(data: bytes) -> Header:
    header = parse_header(data)
    assert isinstance(header, Header)
    return header
