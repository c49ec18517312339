"""Print an answer on a terminal as it comes: block by block as Markdown, what is unfinished below it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from launcher.cli.show.printable import printable

_SHOWN_LINES = 8  # of an unfinished block


class MarkdownStream:
    """Prints text that comes in pieces; what a model thinks is folded into a line."""

    def __init__(self, console: Console, *, show_thinking: bool = False) -> None:
        self._console = console
        self._show_thinking = show_thinking
        self._live = Live(Text("…"), console=console, transient=True, refresh_per_second=8)
        self._text = ""  # not printed for good
        self._thoughts = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(Text(""))
        self._live.stop()
        self._end_thoughts()
        if self._text.strip():
            self._print(self._text)

    def think(self, piece: str) -> None:
        self._thoughts += piece
        last = printable(self._thoughts).strip().rpartition("\n")[2]
        words = len(self._thoughts.split())
        self._live.update(Text(f"thinking, {words} words: {last}"[-self._console.width :], style="dim"))

    def add(self, piece: str) -> None:
        self._end_thoughts()
        self._text += piece
        whole, self._text = split_blocks(self._text)
        if whole:
            self._print(whole)
        lines = printable(self._text).splitlines()[-_SHOWN_LINES:]
        self._live.update(Text("\n".join(lines)))

    def _end_thoughts(self) -> None:
        if not self._thoughts:
            return
        words, thoughts, self._thoughts = len(self._thoughts.split()), printable(self._thoughts.strip()), ""
        shown = thoughts if self._show_thinking else f"thought in {words} words (/set thinking on shows them)"
        self._live.console.print(Text(shown, style="dim"))

    def _print(self, text: str) -> None:
        # no links that a terminal opens: where they lead is written beside them
        self._live.console.print(Markdown(printable(text), hyperlinks=False))


def split_blocks(text: str) -> tuple[str, str]:
    """Part text after its last whole paragraph; a block of code stays in one piece."""
    end, at, fenced = 0, 0, False
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        at += len(line)
        if not line.strip() and line.endswith("\n") and not fenced:
            end = at
    return text[:end], text[end:]
