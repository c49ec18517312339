"""A claim is written by anybody: whatever is in the file, parsing it is quick, small, and a value or a refusal."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.deployment.claims import Claim, parse_claim
from tests.attacks.bounds import bounded

EXAMPLES = settings(max_examples=500, deadline=None)

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**15, 10**400)
    | st.floats()
    | st.text(max_size=200)
    | st.sampled_from(["ram", "GPU-1", "\x1b[2J", "a\nhint: rm", "٣", "\u202e"]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=20), inner, max_size=8),
    max_leaves=20,
)
processes = st.fixed_dictionaries(
    {"pid": anything | st.integers(1, 4_000_000), "start_time": anything | st.floats(0, 1e9)},
    optional={"boot_id": anything, "hostname": anything | st.just("host")},
)
nearly = st.fixed_dictionaries(
    {"name": anything | st.just("a"), "process": anything | processes, "loaded": anything | st.booleans()},
    optional={
        "rows": anything
        | st.dictionaries(st.text(max_size=120), anything | st.integers(0, 1 << 60), max_size=40)
    },
)


def parsed(text: bytes) -> Claim | None:
    with bounded():
        try:
            return parse_claim(text, 1000)
        except ValueError:
            return None


def check(claim: Claim | None) -> None:
    if claim is None:
        return
    assert claim.name.isascii()
    assert claim.name.isprintable()
    assert len(claim.name) <= 64
    assert len(claim.rows) <= 17
    assert all(0 < size <= 1 << 62 for size in claim.rows.values())
    assert all(row.isprintable() and len(row) <= 100 for row in claim.rows)
    assert claim.process.pid >= 1


@EXAMPLES
@given(nearly)
def test_what_is_nearly_a_claim(document: dict[str, Any]) -> None:
    check(parsed(json.dumps(document).encode()))


@EXAMPLES
@given(st.binary(max_size=1 << 14))
def test_bytes(text: bytes) -> None:
    check(parsed(text))


@EXAMPLES
@given(st.integers(0, 300), st.binary(max_size=8))
def test_damage(at: int, junk: bytes) -> None:
    process = {"pid": 7, "start_time": 1.5, "boot_id": None, "hostname": "h"}
    whole = json.dumps({"name": "a", "process": process, "rows": {"ram": 5}, "loaded": True}).encode()
    check(parsed(whole[:at] + junk + whole[at + len(junk) :]))


def test_depth_and_digits() -> None:
    for text in (
        b"[" * 16_000,
        b'{"rows":' * 2_000,
        b"9" * 16_000,
        b'{"rows": {"ram": ' + b"9" * 5_000 + b"}}",
    ):
        assert parsed(text) is None
