from __future__ import annotations

import struct

import pytest

from launcher.errors import BadGguf
from launcher.gguf.header import (
    KEEP_BYTES,
    MAX_ARRAY_ITEMS,
    MAX_STRING_BYTES,
    SkippedArray,
    SkippedString,
    ValueType,
    parse_header,
)
from launcher.gguf.metadata import MAX_KEYS_BYTES
from tests.builders import Typed, build_header, text
from tests.gguf.headers import TWO, parsed


@pytest.mark.parametrize("type_", [type_ for type_ in ValueType if type_ is not ValueType.ARRAY])
def test_every_value_type_is_read_alone_and_in_arrays(type_: ValueType) -> None:
    value: object = {
        ValueType.STRING: "text",
        ValueType.BOOL: True,
        ValueType.F32: 0.5,
        ValueType.F64: 0.1,
    }.get(type_, 7)
    data = build_header(
        {"one": Typed(type_, value), "many": Typed(type_, [value, value]), "none": Typed(type_, [])}
    )
    assert parsed(data).metadata == {"one": value, "many": (value, value), "none": ()}


def test_text_that_is_not_utf8_stays_readable() -> None:
    assert parsed(build_header([(b"k\xff", "x")])).metadata == {"k\\xff": "x"}


def test_long_arrays_and_strings_are_stepped_over() -> None:
    n = MAX_ARRAY_ITEMS
    metadata = {
        "kept": Typed(ValueType.U8, [1] * n),
        "tokens": ["x"] * (n + 1),
        "scores": [0.0] * (n + 1),
        "json": "j" * (MAX_STRING_BYTES + 1),
        "after": 5,
    }
    assert parsed(build_header(metadata, TWO)).metadata == {
        "kept": (1,) * n,
        "tokens": SkippedArray(element_type=8, length=n + 1),
        "scores": SkippedArray(element_type=6, length=n + 1),
        "json": SkippedString(length=MAX_STRING_BYTES + 1),
        "after": 5,
    }


def test_what_is_kept_is_bounded_in_all() -> None:
    metadata = {f"key{index}": "v" * (KEEP_BYTES // 4) for index in range(6)}
    values = list(parsed(build_header(metadata)).metadata.values())
    assert [isinstance(value, str) for value in values] == [True] * 4 + [False] * 2
    arrays = {f"key{index}": Typed(ValueType.U8, [0] * MAX_ARRAY_ITEMS) for index in range(200)}
    kept = [value for value in parsed(build_header(arrays)).metadata.values() if isinstance(value, tuple)]
    assert len(kept) == KEEP_BYTES // (4 * MAX_ARRAY_ITEMS)


def test_a_string_of_a_mib_is_kept_and_arrays_as_far_as_there_is_room() -> None:
    metadata: dict[str, object] = {"json": "j" * MAX_STRING_BYTES}
    metadata |= {f"list{index}": ["v" * (MAX_STRING_BYTES // 4 - 8)] for index in range(4)}
    metadata["more"] = ["v"]
    values = parsed(build_header(metadata)).metadata
    assert KEEP_BYTES == 2 * MAX_STRING_BYTES
    assert [len(value) if isinstance(value, tuple | str) else value for value in values.values()] == [
        MAX_STRING_BYTES, 1, 1, 1, 1, SkippedArray(element_type=8, length=1),
    ]  # fmt: skip


def test_a_key_has_at_most_64_kib() -> None:
    key = "k" * 65535
    assert parsed(build_header({key: 1})).metadata == {key: 1}
    with pytest.raises(BadGguf, match="key 0 has a length of 65536 bytes, and 65535 is the most"):
        parse_header(build_header({key + "k": 1}))


def test_all_keys_together_have_at_most_a_mib() -> None:
    keys = {f"{index:02d}".ljust(65535, "k"): True for index in range(16)} | {"k" * 16: True}
    assert sum(map(len, keys)) == MAX_KEYS_BYTES
    assert len(parsed(build_header(keys)).metadata) == 17
    with pytest.raises(BadGguf, match="the first 18 of 19 keys have 1048577 bytes, and 1048576 is the most"):
        parse_header(build_header(keys | {"x": True, "y": True}))


@pytest.mark.parametrize(
    "head", [struct.pack("<i", 8), struct.pack("<ii", 9, 0), struct.pack("<iiQ", 9, 8, 1)]
)
def test_a_length_of_a_gib_is_the_most_that_ggml_reads(head: bytes) -> None:
    start = build_header(n_kv=1) + text("k") + head
    with pytest.raises(BadGguf, match="the most this reader takes"):
        parse_header(start + struct.pack("<Q", 1 << 30) + bytes(8))
    with pytest.raises(BadGguf, match=r"1073741825 .*, and 1073741824 is the most"):
        parse_header(start + struct.pack("<Q", (1 << 30) + 1) + bytes(8))


@pytest.mark.parametrize("alignment", [1, 2, 32, 1 << 31])
def test_any_power_of_two_is_an_alignment(alignment: int) -> None:
    assert parsed(build_header({"general.alignment": alignment})).alignment == alignment
