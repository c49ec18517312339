from __future__ import annotations

import pytest

from launcher.gguf.header import (
    KEEP_BYTES,
    MAX_ARRAY_ITEMS,
    MAX_STRING_BYTES,
    SkippedArray,
    SkippedString,
    ValueType,
)
from tests.builders import Typed, build_header
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
