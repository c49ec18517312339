"""The header reader takes what llama.cpp takes, and refuses what llama.cpp refuses.

The malformed cases carry the names of HANDCRAFTED_* in llama.cpp's tests/test-gguf.cpp.
"""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import BadGguf
from launcher.gguf.ggml import BLOCKS, GgmlType
from launcher.gguf.header import (
    MAX_HEADER_BYTES,
    NeedMore,
    ValueType,
    parse_header,
)
from tests.builders import Tensor, Typed, build_header, text
from tests.gguf.headers import SMALL, TWO, parsed
from tests.make_gguf import make_shards


def test_a_header_is_read_field_by_field() -> None:
    data = build_header(SMALL, TWO)
    header = parsed(data)
    assert header.version == 3
    assert header.alignment == 32
    assert header.metadata == {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "a.flag": True,
        "names": ("one", "two", ""),
    }
    assert [tensor.name for tensor in header.tensors] == ["a.weight", "b.weight"]
    assert header.tensors[0].shape == (256, 3)
    assert header.tensors[0].type is GgmlType.Q4_K
    assert header.tensors[0].size_bytes == 3 * 144
    assert header.tensors[1].offset == 448
    assert header.data_offset == len(data)
    assert header.end == len(data) + 448 + 28


def test_version_2_has_the_same_layout() -> None:
    old, new = parsed(build_header(SMALL, TWO, version=2)), parsed(build_header(SMALL, TWO))
    assert old.version == 2
    assert old.tensors == new.tensors
    assert old.metadata == new.metadata


def test_a_header_without_tensors_is_not_padded() -> None:
    data = build_header({"split.no": 0})
    header = parsed(data)
    assert len(data) % 32 != 0
    assert (header.data_offset, header.end, header.tensors) == (len(data), len(data), ())


def test_custom_alignment_moves_data_and_offsets() -> None:
    data = build_header({"general.alignment": 128}, TWO, alignment=128)
    header = parsed(data)
    assert header.alignment == 128
    assert header.data_offset % 128 == 0
    assert header.tensors[1].offset == 512


HANDCRAFTED = {
    "HEADER_BAD_MAGIC": (build_header(magic=b"FUGG"), "byte-swapped"),
    "HEADER_BAD_VERSION_0": (build_header(version=0), "version 0 is not supported"),
    "HEADER_BAD_VERSION_1": (build_header(version=1), "version 1 is no longer supported"),
    "HEADER_BAD_VERSION_FUTURE": (build_header(version=4), "version 4 is not supported"),
    "HEADER_BAD_VERSION_BIG_ENDIAN": (build_header(version=0x03000000), "big-endian GGUF file (version 3)"),
    "HEADER_BAD_N_TENSORS": (build_header(n_tensors=-1), "number of tensors is -1"),
    "HEADER_BAD_N_KV": (build_header(n_kv=-1), "number of keys is -1"),
    "HEADER_HUGE_N_TENSORS": (build_header(n_tensors=2**60), f"number of tensors is {2**60}"),
    "HEADER_HUGE_N_KV": (build_header(n_kv=2**60), f"number of keys is {2**60}"),
    "KV_BAD_KEY_SIZE": (
        build_header(n_kv=1) + struct.pack("<Q", 2**64 - 1),
        f"key 0 has a length of {2**64 - 1}",
    ),
    "KV_EMPTY_KEY": (build_header({"": 1}), "key 0 is empty"),
    "KV_BAD_TYPE": (build_header(n_kv=1) + text("k") + struct.pack("<i", 13), "value type 13"),
    "KV_NEGATIVE_TYPE": (build_header(n_kv=1) + text("k") + struct.pack("<i", -1), "value type -1"),
    "KV_BAD_ARRAY_TYPE": (build_header(n_kv=1) + text("k") + struct.pack("<iiQ", 9, 13, 1), "value type 13"),
    "KV_NESTED_ARRAY": (build_header(n_kv=1) + text("k") + struct.pack("<iiQ", 9, 9, 1), "array of arrays"),
    "KV_BAD_VALUE_SIZE": (
        build_header(n_kv=1) + text("k") + struct.pack("<iQ", 8, 2**31),
        f"length of {2**31} bytes",
    ),
    "KV_BAD_ARRAY_LENGTH": (
        build_header(n_kv=1) + text("k") + struct.pack("<iiQ", 9, 4, 2**31),
        f"has {2**31} elements",
    ),
    "KV_BAD_ARRAY_STRING_SIZE": (
        build_header(n_kv=1) + text("k") + struct.pack("<iiQQ", 9, 8, 2, 2**63),
        f"length of {2**63} bytes",
    ),
    "KV_DUPLICATE_KEY": (build_header([("k", 1), ("k", 2)]), "'k' occurs twice"),
    "KV_BAD_ALIGN": (build_header({"general.alignment": 13}), "is 13, which is not a power of two"),
    "KV_ZERO_ALIGN": (build_header({"general.alignment": 0}), "is 0, which is not a power of two"),
    "KV_WRONG_TYPE_ALIGN": (
        build_header({"general.alignment": Typed(ValueType.I32, 32)}),
        "must be of type U32 and is I32",
    ),
    "KV_ARRAY_ALIGN": (build_header({"general.alignment": [32]}), "must be of type U32 and is ARRAY"),
    "TENSORS_BAD_NAME_SIZE": (
        build_header((), [Tensor("n" * 64)]),
        "the name of tensor 0 has a length of 64",
    ),
    "TENSORS_BAD_N_DIMS": (build_header((), [Tensor("t", (1, 1, 1, 1, 1))]), "5 dimensions"),
    "TENSORS_BAD_SHAPE": (build_header((), [Tensor("t", (32, -1), offset=0)]), "a dimension of -1 elements"),
    "TENSORS_NE_TOO_BIG": (
        build_header((), [Tensor("t", (4 * 2**31, 4 * 2**31), offset=0)]),
        "more elements than 63 bits",
    ),
    "TENSORS_NBYTES_TOO_BIG": (
        build_header((), [Tensor("t", (2**31, 2**31), GgmlType.I64, offset=0)]),
        "beyond what 64 bits can address",
    ),
    "TENSORS_NBYTES_PAD_WRAP": (
        build_header((), [Tensor("t", (4, 2**30 - 1, 2**30 + 1), offset=0)]),
        "beyond what 64 bits can address",
    ),
    "TENSORS_BAD_TYPE": (build_header((), [Tensor("t", type=43, offset=0)]), "ggml type 43"),
    "TENSORS_NEGATIVE_TYPE": (build_header((), [Tensor("t", type=-1, offset=0)]), "ggml type -1"),
    "TENSORS_REMOVED_TYPE": (
        build_header((), [Tensor("t", type=31, offset=0)]),
        "which llama.cpp has removed",
    ),
    "TENSORS_PART_OF_A_BLOCK": (
        build_header((), [Tensor("t", (33,), GgmlType.Q4_0)]),
        "not a multiple of 32",
    ),
    "TENSORS_BAD_OFFSET": (
        build_header((), [Tensor("t", offset=2**64 - 1)]),
        f"has offset {2**64 - 1}, and 0",
    ),
    "TENSORS_DUPLICATE_NAME": (build_header((), [Tensor("t"), Tensor("t")]), "'t' occurs twice"),
    "TENSORS_BAD_ALIGN": (build_header({"general.alignment": 13}, TWO, alignment=13), "not a power of two"),
    "TENSORS_INCONSISTENT_ALIGN": (
        build_header((), [Tensor("t", (1,)), Tensor("u", (1,))], alignment=1),
        "has offset 4, and 32 is expected",
    ),
    "DATA_MEM_SIZE_OVERFLOW": (
        build_header(
            (),
            [
                Tensor(f"t{index}", (2**63 - 64,), GgmlType.I8, offset=index * (2**63 - 64))
                for index in range(2)
            ]
            + [Tensor("u", (2**63 - 64,), GgmlType.I8, offset=2**64 - 128)],
        ),
        "beyond what 64 bits can address",
    ),
}


@pytest.mark.parametrize("name", sorted(HANDCRAFTED))
def test_malformed_headers_are_refused_in_one_sentence(name: str) -> None:
    data, words = HANDCRAFTED[name]
    with pytest.raises(BadGguf) as caught:
        parse_header(data + bytes(64))
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"PK\x03\x04" + bytes(60), "a zip archive"),
        (b"lmgg" + bytes(60), "older than GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (struct.pack("<Q", 1000) + b'{"__metadata__":{}}', "a safetensors file"),
        (bytes(64), "not a model file"),
        (random.Random(1).randbytes(64), "not a model file"),
        (b"GX", "not a model file"),
        (b"# la", "it begins with '# la' instead of 'GGUF'"),
    ],
)
def test_other_files_are_told_apart(start: bytes, words: str) -> None:
    with pytest.raises(BadGguf) as caught:
        parse_header(start)
    assert words in caught.value.message
    assert caught.value.hint


def claims(least: int) -> bytes:
    """A header whose first key announces a string of `least` bytes."""
    return build_header(n_kv=1) + text("k") + struct.pack("<iQ", 8, least)


def test_a_claim_of_gigabytes_is_refused_not_asked_for() -> None:
    with pytest.raises(BadGguf, match="the most this reader takes"):
        parse_header(claims(MAX_HEADER_BYTES))
    before = len(claims(0))
    most = parse_header(claims(MAX_HEADER_BYTES - before))
    assert most == NeedMore(n_bytes=MAX_HEADER_BYTES)
    with pytest.raises(BadGguf, match=f"at least {MAX_HEADER_BYTES + 1} bytes"):
        parse_header(claims(MAX_HEADER_BYTES - before + 1))


def assert_prefixes_lead_to(data: bytes, lengths: list[int]) -> None:
    whole = parsed(data)
    for length in lengths:
        answer = parse_header(data[:length])
        if length >= whole.data_offset:
            assert answer == whole
        else:
            assert isinstance(answer, NeedMore)
            assert length < answer.n_bytes <= whole.data_offset


def test_every_prefix_needs_more_until_it_is_the_header() -> None:
    metadata = SMALL | {"f": Typed(ValueType.F64, [1.0, 2.0]), "long": ["ab"] * 12, "general.alignment": 64}
    data = build_header(metadata, TWO, alignment=64) + bytes(80)
    assert_prefixes_lead_to(data, list(range(len(data))))


def asked_for(data: bytes) -> list[int]:
    """The lengths that a reader asks for on its way through the header, each as soon as it can know it."""
    lengths: list[int] = []
    for length in range(len(data)):
        answer = parse_header(data[:length])
        assert isinstance(answer, NeedMore)
        if answer.n_bytes not in lengths:
            lengths.append(answer.n_bytes)
    return lengths


def test_what_the_counts_promise_is_asked_for_at_once() -> None:
    # 24 bytes, with the counts; then two tensors of 24 each; what names (2, 1) and dimensions (16, 8) add; padding
    tensors = [Tensor("ab", (3, 1)), Tensor("c", (5,))]
    assert asked_for(build_header((), tensors)) == [24, 72, 74, 90, 91, 99, 128]
    # behind an item whose length is read (8 bytes), the other keys of 14 each and both tensors
    data = build_header({"k": True, "list": ["x"], "e": 7}, tensors)
    first, second, third = 24 + 28 + 48, 38 + 14 + 48, 75 + 48
    assert asked_for(data) == [
        24,
        *(first + n for n in (8, 9, 13, 14)),  # its name, its type, its value
        *(second + n for n in (12, 16, 20, 28, 36, 37)),  # an element type, a count, lengths and strings
        *(third + n for n in (8, 9, 17)),
        *(92 + n for n in (50, 66, 67, 75)),
        192,
    ]


def test_prefixes_of_a_real_vocabulary_need_more() -> None:
    (shard,) = make_shards("deepseek2", vocabulary="bpe", numbers={"n_vocab": 6000})
    choices = random.Random(0)
    assert_prefixes_lead_to(shard.header, [choices.randrange(len(shard.header) + 1) for _ in range(300)])


scalars = st.one_of(
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(max_size=12),
)
arrays = st.one_of(
    st.lists(st.text(max_size=6), min_size=1, max_size=6),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6),
    st.lists(st.booleans(), min_size=1, max_size=6),
)
keys = st.text(min_size=1, max_size=12).filter(lambda key: key != "general.alignment")


@st.composite
def tensor_lists(draw: st.DrawFn) -> list[Tensor]:
    names = draw(st.lists(st.text("abc.", max_size=8), unique=True, max_size=5))
    types = [draw(st.sampled_from(list(GgmlType))) for _ in names]
    return [
        Tensor(
            name,
            (BLOCKS[type_][0] * draw(st.integers(0, 3)), *draw(st.lists(st.integers(0, 4), max_size=3))),
            type_,
        )
        for name, type_ in zip(names, types, strict=True)
    ]


@settings(max_examples=150, deadline=None)
@given(
    metadata=st.dictionaries(keys, st.one_of(scalars, arrays), max_size=6),
    tensors=tensor_lists(),
    cut=st.floats(0, 1),
)
def test_what_was_built_is_what_is_read(
    metadata: dict[str, object], tensors: list[Tensor], cut: float
) -> None:
    data = build_header(metadata, tensors)
    header = parsed(data)
    expected = {key: tuple(value) if isinstance(value, list) else value for key, value in metadata.items()}
    assert header.metadata == expected
    assert [(t.name, t.shape, t.type, t.size_bytes) for t in header.tensors] == [
        (t.name, t.shape, t.type, t.size_bytes) for t in tensors
    ]
    assert_prefixes_lead_to(data, [int(cut * len(data)), max(0, len(data) - 1)])
