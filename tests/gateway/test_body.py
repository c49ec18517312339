"""Fields of a body are found as json finds them, however the body is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.gateway.body import TopLevelFields, fields_of, with_defaults

KEYS = st.sampled_from(["model", "stream", "messages", "a\\b", 'q"q', "ü", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('aé\\"{}[]:, 😀', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
WANTED = ("model", "stream")


def read(body: bytes, *cuts: int) -> dict[str, object]:
    reader = TopLevelFields(WANTED)
    at = 0
    for cut in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
        reader.feed(body[at:cut])
        at = cut
    return reader.found


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.dictionaries(KEYS, VALUES), st.lists(st.integers(0), max_size=4), st.sampled_from([None, 2]))
def test_the_fields_are_those_of_the_object(
    fields: dict[str, Any], cuts: list[int], indent: int | None
) -> None:
    body = json.dumps(fields, indent=indent).encode()
    assert read(body, *cuts) == {key: fields[key] for key in WANTED if key in fields}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'["model", "a"]', b'"model"', b"null", b"\x00\xff", b'x{"model": "a"}', b"}{", b"]"]
)
def test_what_is_no_object_has_no_fields(body: bytes) -> None:
    assert read(body) == {}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"model", b" ", b"\xff", b"1"])
    )
)
def test_no_bytes_are_too_much(parts: list[bytes]) -> None:
    whole = read(b"".join(parts))
    reader = TopLevelFields(WANTED)
    for part in parts:
        reader.feed(part)
    assert reader.found == whole


def test_fields_of_inner_objects_do_not_count() -> None:
    assert read(b'{"tools": [{"model": "x"}], "messages": {"stream": true}, "model": "m"}') == {"model": "m"}


def test_reading_ends_once_all_is_found() -> None:
    reader = TopLevelFields(WANTED)
    reader.feed(b'{"model": "m", "stream": true, "messages": [')
    assert reader.is_done


def test_a_name_of_a_megabyte_is_not_kept() -> None:
    assert read(b'{"model": "' + b"a" * (1 << 20) + b'"}') == {}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES))
def test_the_clients_own_fields_win(fields: dict[str, Any], defaults: dict[str, Any]) -> None:
    body = with_defaults(json.dumps(fields).encode(), defaults)
    assert json.loads(body) == {**defaults, **fields}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.lists(st.tuples(KEYS, VALUES), max_size=5), st.sampled_from(["", "}", '{"model": "b"}', "\xff"]))
def test_a_whole_body_has_the_fields_that_the_reader_finds(pairs: list[tuple[str, Any]], behind: str) -> None:
    inner = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs)  # some twice
    body = f"{{{inner}}}{behind}".encode("latin-1")
    assert fields_of(body, WANTED) == read(body)
