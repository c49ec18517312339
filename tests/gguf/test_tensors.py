from __future__ import annotations

import pytest

from launcher.errors import BadGguf
from launcher.gguf.ggml import BLOCKS, ROW_BYTES, GgmlType
from launcher.gguf.header import parse_header
from launcher.gguf.tensors import pad
from tests.builders import Tensor, build_header
from tests.gguf.headers import parsed


@pytest.mark.parametrize("type_", list(GgmlType))
def test_every_tensor_type_has_its_size(type_: GgmlType) -> None:
    per_block, size = BLOCKS[type_]
    header = parsed(build_header((), [Tensor("t", (per_block * 2, 3), type_)]))
    assert header.tensors[0].size_bytes == size * 6 + 3 * ROW_BYTES.get(type_, 0)


def test_scalars_and_zero_dimensions() -> None:
    header = parsed(build_header((), [Tensor("scalar", ()), Tensor("none", (32, 0)), Tensor("last", (1,))]))
    assert [tensor.size_bytes for tensor in header.tensors] == [4, 0, 4]
    assert header.end == header.data_offset + 36


def test_a_name_has_at_most_63_bytes_and_a_shape_four_dimensions() -> None:
    header = parsed(build_header((), [Tensor("n" * 63, (32, 2, 3, 4))]))
    assert [(tensor.name, tensor.shape) for tensor in header.tensors] == [("n" * 63, (32, 2, 3, 4))]
    for tensor, words in (
        (Tensor("n" * 64), "has a length of 64 bytes, and 63 is the most"),
        (Tensor("t", (1, 1, 1, 1, 1)), "has 5 dimensions, and 4 is the most"),
    ):
        with pytest.raises(BadGguf, match=words):
            parse_header(build_header((), [tensor]))


@pytest.mark.parametrize("shape", [(2**32, 2**31), (2, 2**62), (2**62, 1, 2), (3, 2**62)])
def test_more_elements_than_63_bits_count_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadGguf, match="more elements than 63 bits can count"):
        parse_header(build_header((), [Tensor("t", shape, GgmlType.I8)]))


@pytest.mark.parametrize("shape", [(2**63 - 1,), (1, 2**63 - 1, 1), (2**62, 1), (2**62, 0, 2**62)])
def test_what_63_bits_count_is_read(shape: tuple[int, ...]) -> None:
    header = parsed(build_header((), [Tensor("t", shape, GgmlType.I8)]))
    assert header.tensors[0].shape == shape


def test_what_64_bits_address_is_read() -> None:
    half = 2**63 - 1
    tensors = [Tensor(name, (n,), GgmlType.I8) for name, n in (("a", half), ("b", half), ("c", 1), ("d", 1))]
    header = parsed(build_header({"general.alignment": 1}, tensors[:3], alignment=1))
    assert header.end - header.data_offset == 2**64 - 1
    with pytest.raises(BadGguf, match="tensor 'd' ends at byte 18446744073709551616, beyond what 64 bits"):
        parse_header(build_header({"general.alignment": 1}, tensors, alignment=1))


@pytest.mark.parametrize(
    ("n", "alignment", "padded"), [(0, 32, 0), (1, 32, 32), (32, 32, 32), (33, 32, 64), (7, 1, 7)]
)
def test_a_tensor_begins_at_a_multiple_of_the_alignment(n: int, alignment: int, padded: int) -> None:
    assert pad(n, alignment) == padded
