"""One command's output: its value to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from launcher.cli.show.json_text import json_text
from launcher.cli.show.printable import Printable, printable
from launcher.cli.show.progress import ProgressStyle, show_progress
from launcher.errors import LauncherError
from launcher.progress import OnProgress
from launcher.units import one_line

if TYPE_CHECKING:  # rich takes longer to import than `launcher --help` may take
    from rich.console import RenderableType

_A_COMMAND = re.compile(r"(hint: )?launcher [a-z-]+ ")
_MAX_SAID = 100_000  # characters of a sentence: a command line is one
_PIPE_WIDTH = 10_000  # columns: wide enough that nothing is folded in a pipe or a file


class Output:
    """One command's output. With `as_json`, stdout gets exactly one JSON document at the end."""

    def __init__(self, *, as_json: bool, progress: ProgressStyle = ProgressStyle.AUTO) -> None:
        from rich.console import Console

        self.as_json = as_json
        self._progress_style = progress
        self._shows_reasoning = False
        self._out = Console(highlight=False)
        if not self._out.is_terminal and "COLUMNS" not in os.environ:
            self._out.width = _PIPE_WIDTH
        self._err = Console(stderr=True, highlight=False)

    @property
    def interactive(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty() and self._err.is_terminal and not self.as_json

    @property
    def is_unicode(self) -> bool:
        """True if stdout takes any sign; else only ASCII is certain."""
        return self._out.encoding.lower().startswith("utf")

    def show(self, value: object, *renderables: RenderableType) -> None:
        """Print the command's value: as JSON when asked for, else the renderables."""
        if self.as_json:
            sys.stdout.write(json_text(value))
            return
        for renderable in renderables:
            self._print(Printable(renderable))

    def _print(self, renderable: RenderableType) -> None:
        if self._out.is_terminal:
            self._out.print(renderable)
            return
        # in a pipe: whole lines, for grep, without the blanks that pad a table's last column
        with self._out.capture() as captured:
            self._out.print(renderable)
        self.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def keep_showing(self, look: Callable[[], tuple[object, RenderableType]], *, every_s: float) -> None:
        """Show what `look` returns, its JSON and its renderable, again and again until Ctrl-C."""
        from rich.live import Live

        with contextlib.suppress(KeyboardInterrupt):
            if self.as_json or not self._out.is_terminal:  # one after the other
                while True:
                    self.show(*look())
                    sys.stdout.flush()
                    time.sleep(every_s)
            with Live(look()[1], console=self._out, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(every_s)
                    live.update(look()[1], refresh=True)

    def show_lines(self, value: object, lines: Iterable[str]) -> None:
        if self.as_json:
            self.show(value)
        else:
            self.write("".join(f"{line}\n" for line in lines))

    def write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def say(self, text: str, *, style: str | None = None) -> None:
        """Print a sentence on stderr: folded between words on a terminal, but for a command, to be copied."""
        whole = not self._err.is_terminal or _A_COMMAND.match(text) is not None
        with contextlib.suppress(OSError):  # a stderr that cannot be written (/dev/full) ends no command
            self._err.print(one_line(text, _MAX_SAID), markup=False, soft_wrap=whole, style=style)

    def warn(self, error: LauncherError) -> None:
        self.say(f"warning: {error.message}")

    def write_untrusted(self, text: str) -> None:
        self.write(printable(text))

    def write_file(self, text: str) -> None:
        self.write(printable(text) if self._out.is_terminal else text)

    def show_reasoning(self, text: str) -> None:
        self._shows_reasoning = True
        self._err.print(printable(text), end="", markup=False, soft_wrap=True, style="dim")

    def end_reasoning(self) -> None:
        if self._shows_reasoning:
            self._shows_reasoning = False
            self._err.print("\n")

    def confirm(self, *, yes: bool) -> Callable[[str], bool]:
        """Return a function that asks the user a question, unless `yes` has answered it already.

        Where nobody can be asked it prints the question and returns True: do not use it for what cannot
        be undone.
        """

        def ask(question: str) -> bool:
            if yes:
                return True
            if not self.interactive:
                self.say(f"note: nobody can be asked, so yes: {question}")
                return True
            answer = self._err.input(f"{one_line(question, _MAX_SAID)} [y/N] ", markup=False)
            return answer.strip().lower() in {"y", "yes"}

        return ask

    def consent(self, question: str) -> bool:
        """Ask for what must not be done unasked: where nobody can be asked, the answer is no."""
        return self.interactive and self.confirm(yes=False)(question)

    def error(self, error: LauncherError) -> None:
        if self.as_json:
            document = {
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "retryable": error.retryable,
            }
            sys.stdout.write(json_text({"error": document}))
            return
        self.say(f"error: {error.message}")
        if error.hint:
            self.say(f"hint: {error.hint}")

    def progress(self) -> AbstractContextManager[OnProgress]:
        """Show the progress of one long job on stderr while the block runs."""
        return show_progress(self._progress_style, self._err, self.say)
