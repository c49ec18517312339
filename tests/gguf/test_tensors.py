from __future__ import annotations

import pytest

from launcher.gguf.ggml import BLOCKS, GgmlType
from tests.builders import Tensor, build_header
from tests.gguf.headers import parsed


@pytest.mark.parametrize("type_", list(GgmlType))
def test_every_tensor_type_has_its_size(type_: GgmlType) -> None:
    per_block, size = BLOCKS[type_]
    header = parsed(build_header((), [Tensor("t", (per_block * 2, 3), type_)]))
    assert header.tensors[0].size_bytes == size * 6


def test_scalars_and_zero_dimensions() -> None:
    header = parsed(build_header((), [Tensor("scalar", ()), Tensor("none", (32, 0)), Tensor("last", (1,))]))
    assert [tensor.size_bytes for tensor in header.tensors] == [4, 0, 4]
    assert header.end == header.data_offset + 36
