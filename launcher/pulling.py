"""Bringing a planned model here: asked before a large download, and at the same time as the engine is built.

What is fetched is `catalogue`'s to know; here is only when, and what the user is told when it is stopped.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

from launcher import planning
from launcher.catalogue import Sources, fetch, sources_of
from launcher.errors import Interrupted, LauncherError
from launcher.hub.located import HubFiles, Located, PullOptions, UrlFiles
from launcher.inventory import Confirm, MachineChoice, engine_or_none, machine_for
from launcher.planning import PlanRequest
from launcher.progress import OnProgress, Step
from launcher.settings import Settings
from launcher.units import format_bytes

ASK_ABOVE_BYTES = 20 * 10**9
"""A download above this is asked about on a terminal (DESIGN section 2)."""


def fetch_all_of(
    located: Located,
    sources: Sources,
    confirm: Confirm,
    on_progress: OnProgress,
    again: tuple[str, ...],
    options: PullOptions | None = None,
) -> tuple[Path, ...]:
    """The local paths of all its files, in shard order. `again` is the command that goes on after Ctrl-C.

    Raises Interrupted on Ctrl-C and when the question is answered with no, and what `catalogue.fetch` raises.
    """
    _ask_about(located, confirm)
    options = options or PullOptions()
    try:
        return fetch(located, sources, on_progress, options)
    except KeyboardInterrupt:
        where = ("--dir", str(options.folder)) if options.folder else ()
        raise Interrupted(
            "the download was stopped; what has arrived is kept", hint=shlex.join([*again, *where])
        ) from None


def _ask_about(located: Located, confirm: Confirm) -> None:
    size = located.model.size_bytes
    remote = isinstance(located.files, HubFiles | UrlFiles)
    if (
        remote
        and size > ASK_ABOVE_BYTES
        and not confirm(f"Download {located.model.model_id}, {format_bytes(size)}?")
    ):
        raise Interrupted("nothing was downloaded", hint="answer y, or give -y")


@contextlib.contextmanager
def pulling_meanwhile(
    request: PlanRequest, settings: Settings, confirm: Confirm, on_progress: OnProgress
) -> Iterator[None]:
    """Where an engine has to be built first: pull meanwhile what the plan without one would take.

    Only saves time: what goes wrong here goes wrong again, and is said, when it is pulled in its turn.
    """
    if engine_or_none(request.engine, settings) is not None:
        yield
        return
    over = threading.Event()
    sources = sources_of(settings)

    def report(step: Step) -> None:
        if over.is_set():
            raise Interrupted("the build has ended")
        on_progress(step)

    def attempt(located: Located) -> None:
        with contextlib.suppress(LauncherError):
            fetch(located, sources, report)

    located: Located | None = None
    with contextlib.suppress(LauncherError):
        machine = machine_for(MachineChoice(), None, settings)
        located = planning.make(request, settings, None, machine, on_progress, sources).located
    if located is None or not isinstance(located.files, HubFiles | UrlFiles):
        yield
        return
    _ask_about(located, confirm)
    pulling = threading.Thread(target=attempt, args=(located,), name="pull")
    pulling.start()
    try:
        yield
    except BaseException:
        over.set()
        raise
    finally:
        pulling.join()
