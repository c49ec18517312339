from __future__ import annotations

import pytest

from launcher.errors import BadGguf
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Header, parse_header
from launcher.gguf.metadata import MetadataScalar
from launcher.gguf.synthesis import (
    TensorFamily,
    TypedTensor,
    TypeRule,
    assign_types,
    header_bytes,
    raise_types,
    type_for,
)


def test_a_total_is_met_from_below_in_the_rules_order() -> None:
    families = [
        TensorFamily(name="a.{}", shape=(256, 4), first=0, last=3),
        TensorFamily(name="b", shape=(256, 4)),
    ]
    rules = [
        TypeRule(match="^a", types=(GgmlType.Q4_K, GgmlType.Q6_K)),
        TypeRule(match=".", types=(GgmlType.Q4_K, GgmlType.Q8_0)),
    ]
    tensors = assign_types(families, rules)
    least = sum(tensor.size_bytes for tensor in tensors)
    step = 4 * (210 - 144)
    some = raise_types(tensors, rules, least + 2 * step + 31)
    assert [tensor.type.name for tensor in some] == ["Q6_K", "Q6_K", "Q4_K", "Q4_K", "Q4_K"]
    with pytest.raises(BadGguf, match="more than the file's"):
        raise_types(tensors, rules, least - 1000)
    with pytest.raises(BadGguf, match="no rule of this recipe gives b a type"):
        assign_types(families, rules[:1])


def test_a_total_that_the_smallest_types_just_meet() -> None:
    families = [TensorFamily(name="a", shape=(256,))]
    rules = [TypeRule(match="a", types=(GgmlType.Q4_K, GgmlType.Q6_K, GgmlType.Q8_0))]
    tensors = assign_types(families, rules)
    least = 160  # 144 bytes, padded
    assert [tensor.type for tensor in raise_types(tensors, rules, least)] == [GgmlType.Q4_K]
    assert [tensor.type for tensor in raise_types(tensors, rules, least + 65)] == [GgmlType.Q4_K]
    assert [tensor.type for tensor in raise_types(tensors, rules, least + 66)] == [GgmlType.Q6_K]
    assert [tensor.type for tensor in raise_types(tensors, rules, least + 128)] == [GgmlType.Q8_0]
    with pytest.raises(BadGguf, match="take 1 bytes more than the file's 159"):
        raise_types(tensors, rules, least - 1)


def test_the_header_made_of_them_is_read_back() -> None:
    metadata: list[tuple[str, MetadataScalar]] = [("a", "text"), ("b", 7), ("c", True), ("d", 0.5)]
    families = [
        TensorFamily(name="blk.{}.w", shape=(256, 3), first=1, last=2),
        TensorFamily(name="norm", shape=(5,)),
    ]
    rules = [
        TypeRule(match="^blk", types=(GgmlType.Q4_K,)),
        TypeRule(match="norm", types=(GgmlType.F32,)),
    ]
    raw = header_bytes(metadata, assign_types(families, rules))
    header = parse_header(raw)
    assert isinstance(header, Header)
    assert (header.metadata, header.data_offset) == (dict(metadata), len(raw))
    assert [(tensor.name, tensor.shape, tensor.size_bytes) for tensor in header.tensors] == [
        ("blk.1.w", (256, 3), 432),
        ("blk.2.w", (256, 3), 432),
        ("norm", (5,), 20),
    ]


@pytest.mark.parametrize(
    ("row", "wanted", "given"),
    [
        (2880, GgmlType.Q4_K, GgmlType.Q5_0),
        (2880, GgmlType.Q6_K, GgmlType.Q8_0),
        (2880, GgmlType.IQ2_XXS, GgmlType.IQ4_NL),
        (2880, GgmlType.MXFP4, GgmlType.MXFP4),
        (4096, GgmlType.Q4_K, GgmlType.Q4_K),
        (100, GgmlType.Q4_K, GgmlType.F16),
    ],
)
def test_a_row_that_a_type_cannot_hold_gets_what_llama_quantize_gives_it(row, wanted, given):
    assert type_for((row, 10), wanted) is given


def test_arrays_of_numbers_and_flags_are_read_back():
    metadata = [("a.kv", (8, 8, 2)), ("a.slides", (True, False))]
    header = parse_header(header_bytes(metadata, ()))
    assert isinstance(header, Header)
    assert (header.metadata["a.kv"], header.metadata["a.slides"]) == ((8, 8, 2), (True, False))


@pytest.mark.parametrize("value", [1 << 32, -1, 1e39, (1 << 31,), (-(1 << 31) - 1,)])
def test_a_number_that_no_file_can_hold_is_refused_by_name(value):
    with pytest.raises(BadGguf, match=r"llama\.context_length has a number that no GGUF file can hold"):
        header_bytes([("llama.context_length", value)], ())


def test_a_tensor_too_large_for_any_file_is_refused_by_name():
    huge = TypedTensor(name="output.weight", shape=(1 << 63, 1), type=GgmlType.F32, rule=0)
    with pytest.raises(BadGguf, match=r"output\.weight has a number"):
        header_bytes((), (huge,))


def test_blocks_without_end_are_stopped_by_the_number_of_tensors():
    endless = TensorFamily(name="blk.{}.attn_q.weight", shape=(32,), first=0, last=(1 << 31) - 1)
    with pytest.raises(BadGguf, match="more than the"):
        assign_types((endless,), (TypeRule(match=".", types=(GgmlType.F32,)),))
