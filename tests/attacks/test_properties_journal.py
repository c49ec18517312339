"""A journal may be damaged or planted: whatever is in it, parsing it is quick, small, and never an error."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.models.transfer.journal import (
    JournalContents,
    arrived_bytes,
    journal_path,
    parse_journal,
    read_journal,
    recorded_identity,
)
from launcher.models.transfer.partial_file import PartialFile
from tests.attacks.bounds import bounded
from tests.attacks.test_properties_claims import EXAMPLES, anything

BOOT = "boot"
lines = st.lists(
    st.builds(
        "{} {}".format,
        st.sampled_from("wsx"),
        st.integers() | st.integers(0, 10**400).map(str) | st.text(max_size=9),
    ),
    max_size=20,
)
abouts = anything | st.fixed_dictionaries(
    {"identity": anything, "size": anything, "unit": anything},
    optional={"boot": anything | st.just(BOOT), "version": anything},
)


def parsed(content: bytes) -> JournalContents:
    with bounded():
        contents = parse_journal(content, BOOT)
    assert contents.synced <= contents.whole
    assert all(0 <= unit < 10**12 for unit in contents.whole)
    return contents


@EXAMPLES
@given(abouts, lines)
def test_what_is_nearly_a_journal(about: object, after: list[str]) -> None:
    content = "\n".join([json.dumps(about), *after, ""]).encode(errors="surrogatepass")
    contents = parsed(content)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "x.part"
        journal_path(part).write_bytes(content)
        assert arrived_bytes(part) >= 0
        assert isinstance(recorded_identity(part), str | None)
        assert read_journal(journal_path(part), {}).about == contents.about


@EXAMPLES
@given(st.binary(max_size=1 << 12))
def test_bytes(content: bytes) -> None:
    parsed(content)


@EXAMPLES
@given(st.integers(0, 120), st.binary(max_size=8))
def test_damage(at: int, junk: bytes) -> None:
    about: dict[str, Any] = {"identity": "x", "size": 95, "unit": 10, "version": "", "boot": BOOT}
    whole = json.dumps(about).encode() + b"\nw 1\ns 1\nw 9\n"
    parsed(whole[:at] + junk + whole[at + len(junk) :])


@settings(max_examples=100, deadline=None)
@given(lines)
def test_a_partial_file_counts_only_its_own_units(after: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.part"
        about: dict[str, Any] = {"identity": "x", "size": 95, "unit": 10}
        path.write_bytes(bytes(95))
        journal_path(path).write_text("\n".join([json.dumps(about), *after, ""]), errors="surrogatepass")
        part = PartialFile(path, size_bytes=95, unit_bytes=10, identity="x")
        part.close()
        assert part.whole <= set(range(10))


@pytest.mark.parametrize(
    "content", [b"[" * (1 << 20) + b"\n", b"9" * 5_000 + b"\n", b'{"a":' * 9_999 + b"\n"]
)
def test_depth_and_digits(content: bytes) -> None:
    assert parse_journal(content, BOOT) == JournalContents()


def test_a_journal_larger_than_any_of_ours_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.part.journal").open("wb") as file:
        file.write(b'{"identity": "x"}\n')
        file.truncate(1 << 40)
    assert recorded_identity(tmp_path / "x.part") is None
