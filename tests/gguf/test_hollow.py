from __future__ import annotations

import pytest

from launcher.errors import BadGguf
from launcher.gguf.header import Header, parse_header
from launcher.gguf.hollow import HollowFile, hollow_copy
from tests.builders import Tensor, build_header

RAW = build_header({"a": 1}, [Tensor("t", (1000,))])
PARSED = parse_header(RAW)
assert isinstance(PARSED, Header)
HEADER: Header = PARSED


def test_a_hollow_copy_is_the_header_and_the_true_size() -> None:
    hollow = hollow_copy(HEADER, RAW + b"weights", HEADER.end)
    assert hollow == HollowFile(content=RAW, size_bytes=len(RAW) + 4000)
    assert hollow_copy(HEADER, RAW, HEADER.end) == hollow


def test_a_cut_header_is_refused() -> None:
    with pytest.raises(BadGguf, match="was cut to 40"):
        hollow_copy(HEADER, RAW[:40], HEADER.end)


def test_a_size_below_the_tensors_is_refused() -> None:
    with pytest.raises(BadGguf, match="the tensors end at byte"):
        hollow_copy(HEADER, RAW, HEADER.end - 1)
