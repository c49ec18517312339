from __future__ import annotations

import pytest

from launcher.errors import BadGguf
from launcher.gguf.ggml import GgmlType, tensor_bytes


def test_a_tensors_bytes() -> None:
    assert tensor_bytes((512,), GgmlType.Q4_K) == 288
    assert tensor_bytes((256, 4), GgmlType.Q4_0) * 8 == 4.5 * 256 * 4


def test_rows_are_whole_blocks() -> None:
    with pytest.raises(BadGguf, match="no multiple of Q4_K's 256"):
        tensor_bytes((100,), GgmlType.Q4_K)
