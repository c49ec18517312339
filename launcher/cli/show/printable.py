"""Text from anywhere, made safe to print on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich takes longer to import than `launcher --help` may take
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


def printable(text: str) -> str:
    """Spell out the characters that are not printable; lines and tabs stay."""
    # so that a terminal obeys no escape sequence of a model file, and every text can be written
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text
    )


class Printable:
    """A renderable whose every text is `printable`; its own colours and cursor movements stay."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self._renderable, options):
            # control segments are rich's own: no text of others is in them
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
