"""What a message shows of a header's text."""

from __future__ import annotations

import pytest

from launcher.gguf.cursor import name_of, quoted, text


@pytest.mark.parametrize(("length", "shown"), [(80, "'" + "k" * 80 + "'"), (81, "'" + "k" * 80 + "…'")])
def test_a_key_is_shown_up_to_80_characters(length: int, shown: str) -> None:
    assert quoted("k" * length) == shown


@pytest.mark.parametrize(
    ("raw", "name", "decoded"),
    [
        (b"blk.0.w", "blk.0.w", "blk.0.w"),
        ("modèle".encode(), "modèle", "modèle"),
        (b"a\x1b[2J", "a\\x1b[2J", "a\x1b[2J"),
        (b"a\xff\nb", "a\\xff\\nb", "a\\xff\nb"),
    ],
)
def test_a_tensors_name_is_printable_whatever_its_bytes(raw: bytes, name: str, decoded: str) -> None:
    assert (name_of(raw), text(raw)) == (name, decoded)
