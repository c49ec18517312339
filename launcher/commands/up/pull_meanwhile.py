"""Pull a model while an engine is built, in a thread of its own."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.pull import ask_about, fetch_each, stopped
from launcher.errors import Interrupted, LauncherError
from launcher.models.located import Located, PullOptions
from launcher.progress import OnProgress, Step

Files = tuple[Located, ...]

_LEAVE_S = 30.0  # for a transfer to end: its threads, then the disk, which may have half a gigabyte to write


@contextlib.contextmanager
def pull_meanwhile(
    here: Here, find: Callable[[Here], Files], again: Callable[[Located], tuple[str, ...]]
) -> Iterator[None]:
    """Find files and pull them during the block, and wait for the pull at its end.

    `again` is the command that goes on with a located model. Raises Interrupted after Ctrl-C, and when the
    question before a large download is answered with no.
    """
    pull = _Pull(here, find)  # only saves time: its errors come again when the files are pulled in turn
    if sys.stdin is not None and sys.stdin.isatty():
        pull.find_first()  # the question would get lost among the bars of the build
    pull.start()
    try:
        yield
        pull.wait()
    except BaseException as error:
        interrupted = pull.stop()
        if interrupted is not None and isinstance(error, KeyboardInterrupt):
            raise stopped(again(interrupted[0])) from None
        raise


class _Pull:
    """A pull in a thread of its own."""

    def __init__(self, here: Here, find: Callable[[Here], Files]) -> None:
        self._on_progress: OnProgress = here.on_progress
        self._here = replace(here, on_progress=self._report)
        self._find_files = find
        self._files: Files | None = None
        self._over, self._ended = threading.Event(), threading.Event()

    def find_first(self) -> None:
        """Find the files in the calling thread. Raises Interrupted where the question is answered with no."""
        try:
            self._files = self._find()
        except Interrupted:
            raise
        except LauncherError:
            self._over.set()  # what is in the way now is not met again amid the build

    def start(self) -> None:
        threading.Thread(target=self._run, name="pull", daemon=True).start()

    def wait(self) -> None:
        """Wait until the pull has ended, however."""
        self._ended.wait()

    def stop(self) -> Files | None:
        """End the pull so that it can be gone on with; return the files that were under way."""
        under_way = None if self._ended.is_set() else self._files
        self._over.set()
        if (
            under_way is not None
        ):  # during the search nothing has arrived, and a silent server is not waited for
            self._ended.wait(_LEAVE_S)
        return under_way

    def _find(self) -> Files:
        files = self._find_files(self._here)
        ask_about(self._here, files)
        return files

    def _report(self, step: Step) -> None:
        # a transfer reports several times a second: the place where it learns that it is over
        if self._over.is_set():
            raise Interrupted("nobody waits for it any more")
        self._on_progress(step)

    def _run(self) -> None:
        try:
            with contextlib.suppress(Exception):  # whatever it is, it comes again in its turn
                if not self._over.is_set():
                    self._files = self._files or self._find()
                if self._files is not None and not self._over.is_set():
                    self._fetch(self._files)
        finally:
            self._ended.set()

    def _fetch(self, files: Files) -> tuple[tuple[Path, ...], ...]:
        return fetch_each(self._here, files, PullOptions())
