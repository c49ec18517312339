"""Progress of a long job on stderr: bars on a terminal, lines in a pipe, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from launcher.cli.show.printable import printable
from launcher.progress import OnProgress, Step
from launcher.units import format_bytes

if TYPE_CHECKING:  # rich takes longer to import than `launcher --help` may take
    from rich.console import Console
    from rich.progress import ProgressColumn, Task, TaskID

_JSON_LINE_EVERY_S = 0.25


class ProgressStyle(StrEnum):
    """The values of `--progress`."""

    AUTO = "auto"
    JSONL = "jsonl"
    NONE = "none"


@contextmanager
def show_progress(style: ProgressStyle, console: Console, say: Callable[[str], None]) -> Iterator[OnProgress]:
    """Yield a function that shows the steps of one job, in the style asked for.

    `console` is that of stderr; `say` prints one line there.
    """
    if style is ProgressStyle.JSONL:
        yield _JsonLines()
    elif style is ProgressStyle.NONE:
        yield _RemarksOnly(say)
    elif console.is_terminal:
        with ProgressBars(console) as bars:
            yield bars
    else:
        yield _Lines(say)


class ProgressBars:
    """One bar per phase, and one per file of it."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), _amount_column(), console=console
        )
        self._tasks: dict[tuple[str, str, str], TaskID] = {}  # by phase, job and file; no file: all of it
        self._lock = threading.Lock()  # phases may run at once, each in a thread: build and pull

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for (_phase, _job, file), task in self._tasks.items():
            begun = self._progress.tasks[self._progress.task_ids.index(task)].completed > 0
            self._progress.update(task, visible=begun and not file)  # only the sums stay on the screen
        self._progress.stop()

    def __call__(self, step: Step) -> None:
        with self._lock:
            if step.is_remark:
                text = printable(f"{step.phase}: {step.text}")
                self._console.print(text, markup=False, highlight=False)
                return
            is_finished_file = bool(step.file) and step.done == step.total and not step.text
            self._progress.update(
                self._task_of(step),
                completed=step.done,
                total=step.total,
                text=step.text[-max(10, self._console.width - _room_beside(step)) :],
                visible=not is_finished_file,
            )

    def _task_of(self, step: Step) -> TaskID:
        """Return the bar of the step's phase, job and file; add it if it is new."""
        key = step.phase, step.job, step.file
        if not self._tasks:
            self._progress.start()
        if key not in self._tasks:
            name = f"  {step.file.rpartition('/')[2]}" if step.file else f"{step.phase} {step.job}".rstrip()
            width = max(20, self._console.width - 60)  # beside the bar and the amount
            if len(name) > width:  # of a file's name its end, where shards have their numbers
                name = f"  …{name[3 - width :]}" if step.file else f"{name[: width - 1]}…"
            self._tasks[key] = self._progress.add_task(name, unit=step.unit, text="", total=step.total)
        return self._tasks[key]


def _room_beside(step: Step) -> int:
    """Return the columns of what stands beside the text: the name, the bar and the amount."""
    return 62 if step.unit == "bytes" or step.job or step.file else 42


def _amount_column() -> ProgressColumn:
    """Make the column right of a bar: done of total in the step's unit, speed, time left, text."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class AmountColumn(ProgressColumn):
        max_refresh = 0.5  # seconds; figures that change faster cannot be read

        def render(self, task: Task) -> Text:
            return Text(_amount(task))

    return AmountColumn()


def _amount(task: Task) -> str:
    text = str(task.fields["text"])
    if task.fields["unit"] == "s":
        return f"{task.elapsed or 0:.0f} s {text}"
    if task.fields["unit"] != "bytes":
        return f"{task.completed:.0f}/{task.total or 0:.0f} {text}"
    of = f" of {format_bytes(int(task.total))}" if task.total else ""  # not known before it is listed
    words = [f"{format_bytes(int(task.completed))}{of}"] if task.completed or of else []
    if not task.finished and task.speed:
        words.append(f"{format_bytes(int(task.speed))}/s")
    if not task.finished and task.time_remaining:
        words.append(f"{timedelta(seconds=int(task.time_remaining))} left")
    return ", ".join(words + [text] * bool(text))


class _RemarksOnly:
    """Remarks, and no progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def __call__(self, step: Step) -> None:
        if step.is_remark:
            self._say(f"{step.phase}: {step.text}")


class _Lines:
    """A line when a phase begins and one per 10 % of it. Phases of unknown length: one per new text."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        # by phase and job: the text and the tenth of its last line
        self._last: dict[tuple[str, str], tuple[str, int]] = {}

    def __call__(self, step: Step) -> None:
        if step.is_remark:
            self._say(f"{step.phase}: {step.text}")
            return
        if step.file:
            return  # the phase as a whole is enough in a log
        key, text = (step.phase, step.job), " ".join(filter(None, (step.job, step.text)))
        if step.total:
            tenth = min(10, step.done * 10 // step.total)
            if self._last.get(key, ("", -1))[1] < tenth:
                self._last[key] = ("", tenth)
                self._say(f"{step.phase}: {tenth * 10} % {text}".rstrip())
        elif self._last.get(key, (None, 0))[0] != step.text:
            self._last[key] = (step.text, -1)
            self._say(f"{step.phase}: {text}".rstrip(": "))


class _JsonLines:
    """A JSON line per step, at most four a second for each phase and file; remarks and the end always."""

    def __init__(self) -> None:
        self._written_at: dict[tuple[str, str, str], float] = {}

    def __call__(self, step: Step) -> None:
        now, key = time.monotonic(), (step.phase, step.job, step.file)
        is_soon = now - self._written_at.get(key, float("-inf")) < _JSON_LINE_EVERY_S
        if is_soon and not step.is_remark and step.done != step.total:
            return
        self._written_at[key] = now
        sys.stderr.write(json.dumps(step.document, ensure_ascii=False) + "\n")
        sys.stderr.flush()
