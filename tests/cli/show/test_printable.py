"""Text from anywhere, safe for a terminal."""

from __future__ import annotations

from launcher.cli.show.printable import printable


def test_printable_text_lines_and_tabs_stay() -> None:
    assert printable("größer 日本\n\tx") == "größer 日本\n\tx"
