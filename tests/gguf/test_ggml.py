from __future__ import annotations

import pytest

from launcher.errors import BadGguf
from launcher.gguf.ggml import IK_TYPES, GgmlType, tensor_bytes


def test_a_tensors_bytes() -> None:
    assert tensor_bytes((512,), GgmlType.Q4_K) == 288
    assert tensor_bytes((256, 4), GgmlType.Q4_0) * 8 == 4.5 * 256 * 4


def test_ik_types_have_bytes_for_each_row() -> None:
    # ggml_row_size of ik_llama.cpp's own library
    assert tensor_bytes((256, 3), GgmlType.IQ4_KS) == 3 * (136 + 4)
    assert tensor_bytes((512, 2), GgmlType.Q4_K_R4) == tensor_bytes((512, 2), GgmlType.Q4_K)
    assert tensor_bytes((256, 0), GgmlType.IQ4_KS) == 0
    assert GgmlType.Q2_0 not in IK_TYPES
    assert GgmlType.IQ6_K in IK_TYPES


def test_rows_are_whole_blocks() -> None:
    with pytest.raises(BadGguf, match="no multiple of Q4_K's 256"):
        tensor_bytes((100,), GgmlType.Q4_K)
