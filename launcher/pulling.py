"""Bringing a model here: asked before a large download, and at the same time as the engine is built.

What is fetched is `catalogue`'s to know; here is only when, and what the user is told when it is stopped. What plans
is handed in: a pull that names its quant does not wait for its import (0.2 s).
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.catalogue import Sources, bytes_to_fetch, fetch, resolve, sources_of
from launcher.errors import Interrupted, LauncherError
from launcher.hub.located import HubFiles, LocalFiles, Located, PullOptions, UrlFiles
from launcher.progress import OnProgress, Step
from launcher.settings import read_settings
from launcher.units import format_bytes

if TYPE_CHECKING:
    from launcher.inventory import Confirm

ASK_ABOVE_BYTES = 20 * 10**9
"""A download above this is asked about on a terminal (DESIGN section 2)."""

_LEAVE_S = 30.0  # for a transfer to end: its threads, then the disk, which may have half a gigabyte to write


def pull(
    ref: str,
    quant: str | None,
    options: PullOptions,
    confirm: Confirm,
    on_progress: OnProgress,
    locate_planned: Callable[[str, str | None, OnProgress], Located],
    also: tuple[str, ...] = (),
) -> tuple[Path, ...]:
    """Bring a model's files here: the quant that is named or the only one, else the one `locate_planned` chooses. `also`
    are words that were typed and that `options` does not carry, for the command that goes on after Ctrl-C."""
    sources = sources_of(read_settings())
    target = resolve(ref, quant, sources)
    if len(target.candidates) == 1:
        located = target.candidates[0].open(on_progress)
        if options.verify and isinstance(located.files, LocalFiles):
            for path in located.files.paths:
                sources.store.forget_verified(path)
            located = target.candidates[0].open(
                on_progress
            )  # hashed again, and fetched anew where it is damaged
    else:
        located = locate_planned(ref, quant, on_progress)
    again = ("launcher", "pull", ref, *(("--quant", quant) if quant else ()), *_words(options), *also)
    return fetch_all_of(located, sources, confirm, on_progress, again, options)


def _words(options: PullOptions) -> Iterator[str]:
    """The options as they are typed."""
    if options.folder:
        yield from ("--dir", str(options.folder))
    for folder in options.look_in:
        yield from ("--from", str(folder))
    if options.verify:
        yield "--verify"
    if options.tuning:
        yield from ("--connections", str(options.tuning.connections))


def fetch_all_of(
    located: Located,
    sources: Sources,
    confirm: Confirm,
    on_progress: OnProgress,
    again: tuple[str, ...],
    options: PullOptions | None = None,
) -> tuple[Path, ...]:
    """The local paths of all its files, in shard order. `again` is the command that goes on after Ctrl-C or an error.

    Raises Interrupted on Ctrl-C and when the question is answered with no, and what `catalogue.fetch` raises.
    """
    options = options or PullOptions()
    _ask_about(located, sources, options, confirm)
    try:
        return fetch(located, sources, on_progress, replace(options, again=shlex.join(again)))
    except KeyboardInterrupt:
        raise _stopped(again) from None


def _stopped(again: tuple[str, ...]) -> Interrupted:
    return Interrupted("the download was stopped; what has arrived is kept", hint=shlex.join(again))


def _ask_about(located: Located, sources: Sources, options: PullOptions, confirm: Confirm) -> None:
    """Before a large download, by what is still to come. Raises Interrupted where the answer is no."""
    if not isinstance(located.files, HubFiles | UrlFiles):
        return
    size = bytes_to_fetch(located, sources, options)
    if size > ASK_ABOVE_BYTES and not confirm(f"Download {located.model.model_id}, {format_bytes(size)}?"):
        raise Interrupted("nothing was downloaded", hint="answer y, or give -y")


@contextlib.contextmanager
def pulling_meanwhile(
    locate: Callable[[OnProgress], Located],
    sources: Sources,
    confirm: Confirm,
    on_progress: OnProgress,
    again: Callable[[Located], tuple[str, ...]],
) -> Iterator[None]:
    """While an engine is built: find what is to be pulled and pull it, to its end where the build is over before.

    Only saves time: what goes wrong here goes wrong again, and is said, when it is pulled in its turn. On a terminal it
    is found, and asked about, before: a question would wait among the bars of the build. Raises Interrupted with the
    command that goes on (`again`) after Ctrl-C, and when the question is answered with no.
    """

    def find() -> Located:
        located = locate(meanwhile.report)
        _ask_about(located, sources, PullOptions(), confirm)
        return located

    meanwhile = _Meanwhile(find, lambda located, watch: fetch(located, sources, watch), on_progress)
    if sys.stdin is not None and sys.stdin.isatty():
        meanwhile.find_first()
    meanwhile.start()
    try:
        yield
        meanwhile.wait()
    except BaseException as error:
        stopped = meanwhile.stop()
        if stopped is not None and isinstance(error, KeyboardInterrupt):
            raise _stopped(again(stopped)) from None
        raise


class _Meanwhile:
    """A pull in a thread of its own. The caller waits for events and never joins: a join that Ctrl-C breaks off leaves a
    thread that the interpreter of 3.11 takes for ended, and that it would wait for in 3.13."""

    def __init__(
        self,
        find: Callable[[], Located],
        fetch: Callable[[Located, OnProgress], object],
        on_progress: OnProgress,
    ) -> None:
        self._find, self._fetch, self._on_progress = find, fetch, on_progress
        self._located: Located | None = None
        self._over, self._ended = threading.Event(), threading.Event()

    def find_first(self) -> None:
        """In the calling thread. Raises Interrupted where the question is answered with no; of other trouble nothing."""
        try:
            self._located = self._find()
        except Interrupted:
            raise
        except LauncherError:
            self._over.set()

    def start(self) -> None:
        threading.Thread(target=self._run, name="pull", daemon=True).start()

    def wait(self) -> None:
        """Until it has ended, however."""
        self._ended.wait()

    def stop(self) -> Located | None:
        """Have it leave what has arrived as it can be gone on with; the model, where one was under way. While it is looked
        for nothing has arrived, and nobody waits for a server that says nothing."""
        under_way = None if self._ended.is_set() else self._located
        self._over.set()
        if under_way is not None:
            self._ended.wait(_LEAVE_S)
        return under_way

    def report(self, step: Step) -> None:
        """What has to be done here is heard of here: a transfer reports several times a second."""
        if self._over.is_set():
            raise Interrupted("nobody waits for it any more")
        self._on_progress(step)

    def _run(self) -> None:
        try:
            with contextlib.suppress(Exception):  # whatever it is, it comes again in its turn
                self._located = self._located or self._find()
                if not self._over.is_set():
                    self._fetch(self._located, self.report)
        finally:
            self._ended.set()
