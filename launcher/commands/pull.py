"""Bringing a model here: asked before a large download, and at the same time as the engine is built.

What is fetched is `fetching`'s to know; here is only when, and what the user is told when it is stopped. What plans
is handed in: a pull that names its quant does not wait for its import (0.2 s).
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import Interrupted, LauncherError
from launcher.models.catalogue import Candidate, Sources, Target, resolve, sources_of
from launcher.models.fetch import bytes_to_fetch, fetch, missing_files, refuse_foreign
from launcher.models.located import HubFiles, LocalFiles, Located, PullOptions, UrlFiles
from launcher.models.url_secrets import quote_command
from launcher.progress import OnProgress, Step, remark
from launcher.system.settings import Settings, read_settings
from launcher.units import format_bytes

if TYPE_CHECKING:
    from launcher.commands.engine import Confirm

ASK_ABOVE_BYTES = 20 * 10**9
"""A download above this is asked about on a terminal (DESIGN section 2)."""

_LEAVE_S = 30.0  # for a transfer to end: its threads, then the disk, which may have half a gigabyte to write


def pull(
    ref: str,
    quant: str | None,
    options: PullOptions,
    confirm: Confirm,
    on_progress: OnProgress,
    locate_planned: Callable[[str, str | None, tuple[str, ...], OnProgress], tuple[Located, ...]],
    also: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
) -> tuple[Path, ...]:
    """Bring a model's files here: the quant that is named or the only one, else the one `locate_planned` chooses; and
    those that llama-server's `flags`, or the profile's, have it load beside the model, which it finds too. `also` are words that were typed
    and that `options` does not carry, for the command that goes on after Ctrl-C."""
    settings = read_settings()
    sources = sources_of(settings)
    if flags:
        _check_flags(flags, settings, on_progress)
    target = resolve(ref, quant, sources)
    if len(target.candidates) == 1:
        located = _open(target.candidates[0], sources, on_progress, verify=options.verify)
        wanted = (located, *_named_by(target, flags, sources))
    else:
        wanted = locate_planned(ref, quant, flags, on_progress)
    again = ["launcher", "pull", ref, *(("--quant", quant) if quant else ()), *_words(options), *also]
    again += ["--", *flags] if flags else []
    paths = fetch_all_of(wanted, sources, confirm, on_progress, tuple(again), options)
    return tuple(path for each in paths for path in each)


def _check_flags(flags: tuple[str, ...], settings: Settings, on_progress: OnProgress) -> None:
    """As `up` does before it knows a plan. Those that decide nothing here are named: who types them expects something."""
    from launcher.commands.engine import engine_or_none
    from launcher.engine.capabilities import read_capabilities
    from launcher.engine.flags.argv import check_flags
    from launcher.engine.flags.companion_flags import is_companion_flag
    from launcher.engine.flags.pinned_flags import PINNED_ARITIES
    from launcher.engine.flags.rope_flags import ROPE_FLAGS
    from launcher.engine.flags.user_flags import absorb_flags, adapter_files, split_flags
    from launcher.plan.workload import Workload

    engine = engine_or_none(None, settings)
    _, rest = absorb_flags(flags, Workload())
    check_flags(
        rest, read_capabilities(engine, settings.cache_dir).has if engine else PINNED_ARITIES.__contains__
    )
    idle = [
        words[0]
        for name, words in split_flags(rest)
        if not (is_companion_flag(name) or name in ROPE_FLAGS or tuple(adapter_files(words)))
    ]
    if idle:
        on_progress(
            remark("pull", f"{', '.join(idle)}: for the server, and without effect on what is pulled")
        )


def _open(candidate: Candidate, sources: Sources, on_progress: OnProgress, *, verify: bool) -> Located:
    """Its headers; with `verify`, what is here is hashed again, and fetched anew where it is damaged."""
    located = candidate.open(on_progress)
    if not (verify and isinstance(located.files, LocalFiles)):
        return located
    for path in located.files.paths:
        sources.store.forget_verified(path)
    return candidate.open(on_progress)


def _named_by(target: Target, typed: tuple[str, ...], sources: Sources) -> tuple[Located, ...]:
    """What is somewhere else and loaded beside the model, by the flags typed and those of the profile."""
    carried = target.profile.flags if target.profile else ()
    if not (carried or typed):
        return ()
    from launcher.commands.companions import files_of, find_companions
    from launcher.engine.flags.user_flags import carried_flags
    from launcher.plan.workload import Workload

    flags = (*carried_flags(carried, typed, Workload()), *typed)
    return files_of(find_companions(flags, sources).remote)


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
    wanted: Sequence[Located],
    sources: Sources,
    confirm: Confirm,
    on_progress: OnProgress,
    again: tuple[str, ...],
    options: PullOptions | None = None,
) -> tuple[tuple[Path, ...], ...]:
    """The local paths of all files of a model and of what is loaded beside it, each in shard order. `again` is the command
    that goes on after Ctrl-C or an error.

    Raises Interrupted on Ctrl-C and when the question is answered with no, and what `fetching.fetch` raises.
    """
    options = options or PullOptions()
    _ask_about(wanted, sources, options, confirm)
    try:
        return _fetch_each(wanted, sources, on_progress, replace(options, again=quote_command(again)))
    except KeyboardInterrupt:
        raise _stopped(again) from None


def _fetch_each(
    wanted: Sequence[Located], sources: Sources, on_progress: OnProgress, options: PullOptions
) -> tuple[tuple[Path, ...], ...]:
    """One after the other; what of the user's is in the way of any, and the disk for all of them, is asked before the first
    byte."""
    for one in wanted:
        refuse_foreign(one, sources, options)
    come = [missing_files(one, sources, options) for one in wanted[1:]]
    return tuple(
        fetch(one, sources, on_progress, replace(options, later=tuple(chain.from_iterable(come[index:]))))
        for index, one in enumerate(wanted)
    )


def _stopped(again: tuple[str, ...]) -> Interrupted:
    return Interrupted("the download was stopped; what has arrived is kept", hint=quote_command(again))


def _ask_about(wanted: Sequence[Located], sources: Sources, options: PullOptions, confirm: Confirm) -> None:
    """Before a large download, by what is still to come. Raises Interrupted where the answer is no."""
    remote = [one for one in wanted if isinstance(one.files, HubFiles | UrlFiles)]
    size = sum(bytes_to_fetch(one, sources, options) for one in remote)
    names = " and ".join(one.model.model_id for one in remote)
    if size > ASK_ABOVE_BYTES and not confirm(f"Download {names}, {format_bytes(size)}?"):
        raise Interrupted("nothing was downloaded", hint="answer y, or give -y")


@contextlib.contextmanager
def pulling_meanwhile(
    locate: Callable[[OnProgress], tuple[Located, ...]],
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
    options = PullOptions()

    def find() -> tuple[Located, ...]:
        wanted = locate(meanwhile.report)
        _ask_about(wanted, sources, options, confirm)
        return wanted

    meanwhile = _Meanwhile(
        find, lambda wanted, watch: _fetch_each(wanted, sources, watch, options), on_progress
    )
    if sys.stdin is not None and sys.stdin.isatty():
        meanwhile.find_first()
    meanwhile.start()
    try:
        yield
        meanwhile.wait()
    except BaseException as error:
        stopped = meanwhile.stop()
        if stopped is not None and isinstance(error, KeyboardInterrupt):
            raise _stopped(again(stopped[0])) from None
        raise


class _Meanwhile:
    """A pull in a thread of its own. The caller waits for events and never joins: a join that Ctrl-C breaks off leaves a
    thread that the interpreter of 3.11 takes for ended, and that it would wait for in 3.13."""

    def __init__(
        self,
        find: Callable[[], tuple[Located, ...]],
        fetch: Callable[[tuple[Located, ...], OnProgress], object],
        on_progress: OnProgress,
    ) -> None:
        self._find, self._fetch, self._on_progress = find, fetch, on_progress
        self._wanted: tuple[Located, ...] | None = None
        self._over, self._ended = threading.Event(), threading.Event()

    def find_first(self) -> None:
        """In the calling thread. Raises Interrupted where the question is answered with no; of other trouble nothing."""
        try:
            self._wanted = self._find()
        except Interrupted:
            raise
        except LauncherError:
            self._over.set()

    def start(self) -> None:
        threading.Thread(target=self._run, name="pull", daemon=True).start()

    def wait(self) -> None:
        """Until it has ended, however."""
        self._ended.wait()

    def stop(self) -> tuple[Located, ...] | None:
        """Have it leave what has arrived as it can be gone on with; what was wanted, where it was under way. While it is looked
        for nothing has arrived, and nobody waits for a server that says nothing."""
        under_way = None if self._ended.is_set() else self._wanted
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
                if not self._over.is_set():  # what was in the way before the build is not met again amid it
                    self._wanted = self._wanted or self._find()
                if self._wanted is not None and not self._over.is_set():
                    self._fetch(self._wanted, self.report)
        finally:
            self._ended.set()
