"""Where text goes: data to stdout, talk to stderr; tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from launcher.errors import LauncherError
from launcher.progress import OnProgress, Step
from launcher.units import format_bytes

if TYPE_CHECKING:  # rich takes longer to import than `launcher --help` may take
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress, ProgressColumn, Task, TaskID
    from rich.segment import Segment


_UNSAFE_JSON = re.compile("[\x7f-\x9f\ud800-\udfff]")
"""What JSON lets through as it is: controls beyond ASCII, which some terminals obey, and bytes of file names that are
not UTF-8 (PEP 383), which nothing can write."""

_PIPE_WIDTH = 10_000
"""Columns of what is no terminal: nothing is folded there."""


def printable(text: str) -> str:
    """Text from anywhere, for a terminal: what is not printable is spelled out, so that no escape sequence of a model
    file is obeyed and nothing fails to be written. Lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text
    )


class ProgressStyle(StrEnum):
    AUTO = "auto"
    JSONL = "jsonl"
    NONE = "none"


class Output:
    """One command's output. With `as_json`, stdout gets exactly one JSON document at the end."""

    def __init__(self, *, as_json: bool, progress: ProgressStyle = ProgressStyle.AUTO) -> None:
        from rich.console import Console

        self.as_json = as_json
        self._progress = progress
        self._murmured = False
        self._out = Console(highlight=False)
        if not self._out.is_terminal and "COLUMNS" not in os.environ:
            self._out.width = _PIPE_WIDTH
        self._err = Console(stderr=True, highlight=False)

    @property
    def interactive(self) -> bool:
        """A person is there to answer a question."""
        return sys.stdin is not None and sys.stdin.isatty() and self._err.is_terminal and not self.as_json

    def show(self, value: object, *renderables: RenderableType) -> None:
        """Print the command's value: JSON when asked for, else what a person reads."""
        if self.as_json:
            self._document(plain(value))
            return
        for renderable in renderables:
            self._print(_Printable(renderable))

    def _print(self, renderable: RenderableType) -> None:
        """On a terminal as wide as it is; in a pipe whole lines, for grep, and no blanks at their ends."""
        if self._out.is_terminal:
            self._out.print(renderable)
            return
        with self._out.capture() as captured:
            self._out.print(renderable)
        self.data("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def _document(self, value: object) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        sys.stdout.write(_UNSAFE_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")

    def show_lines(self, value: object, lines: Iterable[str]) -> None:
        """Like `show`, for lines that a script reads: never folded."""
        if self.as_json:
            self.show(value)
        else:
            self.data("".join(f"{line}\n" for line in lines))

    def data(self, text: str) -> None:
        """Raw text to stdout, as it comes (a streamed answer, a log)."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Talk, to stderr."""
        self._err.print(printable(text), markup=False, soft_wrap=True)

    def warn(self, error: LauncherError) -> None:
        """Say what is wrong and not in the way."""
        self.say(f"warning: {error.message}")

    def murmur(self, text: str) -> None:
        """A model's reasoning as it comes, to stderr, dimmed where that shows."""
        self._murmured = True
        self._err.print(text, end="", markup=False, soft_wrap=True, style="dim")

    def murmur_ends(self) -> None:
        """The reasoning is over; what follows begins on a line of its own."""
        if self._murmured:
            self._murmured = False
            self._err.print("\n")

    def confirm(self, *, yes: bool) -> Callable[[str], bool]:
        """How to ask: on a terminal the user, unless `yes` answered already; where nobody is there, say so and go on. Not
        for what cannot be got back: that needs `yes`."""

        def ask(question: str) -> bool:
            if yes:
                return True
            if not self.interactive:
                self.say(f"note: nobody can be asked, so yes: {question}")
                return True
            answer = self._err.input(f"{printable(question)} [y/N] ", markup=False)
            return answer.strip().lower() in {"y", "yes"}

        return ask

    def consent(self, question: str) -> bool:
        """Ask for what must not be done unasked: where nobody is there, the answer is no."""
        return self.interactive and self.confirm(yes=False)(question)

    def error(self, error: LauncherError) -> None:
        """Print the sentence and the next command to type; under --json the error document."""
        if self.as_json:
            document = {
                "code": error.code,
                "message": error.message,
                "hint": error.hint,
                "retryable": error.retryable,
            }
            self._document({"error": document})
            return
        self.say(f"error: {error.message}")
        if error.hint:
            self.say(f"hint: {error.hint}")

    def _remark(self, step: Step) -> None:
        if step.is_remark:
            self.say(f"{step.phase}: {step.text}")

    @contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """Progress of one long job: bars on a terminal, a line per 10 % in a pipe, JSON lines when asked."""
        if self._progress is ProgressStyle.JSONL:
            yield _JsonLines()
        elif self._progress is ProgressStyle.NONE:
            yield self._remark
        elif self._err.is_terminal:
            bars = _Bars(self._err)
            with bars:
                yield bars
        else:
            yield _Lines(self)


class _Printable:
    """A renderable whose every text is `printable`; its own colours and movements stay."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class _Bars:
    """One bar per phase and one per part of it. Several phases may go on at once, in threads of their own."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._bars: Progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), _amount(), console=console
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for key, task in self._tasks.items():
            self._bars.update(task, visible=not key[1])  # what stays is the sum
        self._bars.stop()

    def __call__(self, step: Step) -> None:
        with self._lock:
            if step.is_remark:
                text = printable(f"{step.phase}: {step.text}")
                self._console.print(text, markup=False, highlight=False, soft_wrap=True)
                return
            key = step.phase, step.file
            if not self._tasks:
                self._bars.start()
            if key not in self._tasks:
                name = f"  {step.file.rpartition('/')[2]}" if step.file else step.phase
                room = max(20, self._console.width - 60)
                shown = name if len(name) <= room else "  …" + name[3 - room :]
                self._tasks[key] = self._bars.add_task(shown, unit=step.unit, text="", total=step.total)
            whole = bool(step.file) and step.done == step.total and not step.text
            self._bars.update(
                self._tasks[key],
                completed=step.done,
                total=step.total,
                text=step.text[-max(10, self._console.width - 62) :],
                visible=not whole,
            )


def _amount() -> ProgressColumn:
    """How much of how much, how fast, how much longer; in the step's own unit."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Amount(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            text = str(task.fields["text"])
            if task.fields["unit"] == "s":
                return Text(f"{task.elapsed or 0:.0f} s {text}")
            if task.fields["unit"] != "bytes":
                return Text(f"{task.completed:.0f}/{task.total or 0:.0f} {text}")
            words = [f"{format_bytes(int(task.completed))} of {format_bytes(int(task.total or 0))}"]
            if not task.finished and task.speed:
                words.append(f"{format_bytes(int(task.speed))}/s")
            if not task.finished and task.time_remaining:
                words.append(f"{timedelta(seconds=int(task.time_remaining))} left")
            return Text(", ".join(words + [text] * bool(text)))

    return Amount()


class _Lines:
    """A line when a phase begins and one per 10 % of it."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: dict[str, tuple[str, int]] = {}

    def __call__(self, step: Step) -> None:
        if step.is_remark:
            self._output.say(f"{step.phase}: {step.text}")
            return
        if step.file:
            return
        if step.total:
            tenth = min(10, step.done * 10 // step.total)
            if self._said.get(step.phase, ("", -1))[1] < tenth:
                self._said[step.phase] = ("", tenth)
                self._output.say(f"{step.phase}: {tenth * 10} % {step.text}".rstrip())
        elif self._said.get(step.phase, (None, 0))[0] != step.text:
            self._said[step.phase] = (step.text, -1)
            self._output.say(f"{step.phase}: {step.text}".rstrip(": "))


class _JsonLines:
    """A JSON line per step, at most some a second of each phase and each part of it, and the last one of each."""

    EVERY_S = 0.25

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], float] = {}

    def __call__(self, step: Step) -> None:
        now, key = time.monotonic(), (step.phase, step.file)
        soon = now - self._said.get(key, float("-inf")) < self.EVERY_S
        if soon and not step.is_remark and step.done != step.total:
            return
        self._said[key] = now
        sys.stderr.write(json.dumps(step.document, ensure_ascii=False) + "\n")
        sys.stderr.flush()


def plain(value: object) -> object:
    """A value as JSON knows it: dataclasses and mappings to objects, tuples to arrays, paths to text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)
