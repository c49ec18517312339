"""Bringing a model here: asked before a large download, and at the same time as the engine is built.

What is fetched is `catalogue`'s to know; here is only when, and what the user is told when it is stopped. What plans
is imported where it is needed: a pull that names its quant does not wait for it (0.2 s).
"""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.catalogue import Sources, bytes_to_fetch, fetch, resolve, sources_of
from launcher.errors import Interrupted, LauncherError
from launcher.hub.located import Awaited, HubFiles, LocalFiles, Located, PullOptions, UrlFiles
from launcher.progress import OnProgress, Step
from launcher.settings import Settings, read_settings
from launcher.units import format_bytes

if TYPE_CHECKING:
    from launcher.inventory import Confirm
    from launcher.planning import PlanRequest

ASK_ABOVE_BYTES = 20 * 10**9
"""A download above this is asked about on a terminal (DESIGN section 2)."""


def pull(
    ref: str,
    quant: str | None,
    options: PullOptions,
    confirm: Confirm,
    on_progress: OnProgress,
    locate_planned: Callable[[str, str | None, OnProgress], Located],
) -> tuple[Path, ...]:
    """Bring a model's files here: the quant that is named or the only one, else the one `locate_planned` chooses."""
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
    again = ("launcher", "pull", ref, *(("--quant", quant) if quant else ()))
    return fetch_all_of(located, sources, confirm, on_progress, again, options)


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
    options = options or PullOptions()
    _ask_about(located, sources, options, confirm)
    try:
        return fetch(located, sources, on_progress, options)
    except KeyboardInterrupt:
        where = ("--dir", str(options.folder)) if options.folder else ()
        raise Interrupted(
            "the download was stopped; what has arrived is kept", hint=shlex.join([*again, *where])
        ) from None


def _ask_about(located: Located, sources: Sources, options: PullOptions, confirm: Confirm) -> None:
    """Before a large download, by what is still to come. Raises Interrupted where the answer is no."""
    if not isinstance(located.files, HubFiles | UrlFiles):
        return
    size = bytes_to_fetch(located, sources, options)
    if size > ASK_ABOVE_BYTES and not confirm(f"Download {located.model.model_id}, {format_bytes(size)}?"):
        raise Interrupted("nothing was downloaded", hint="answer y, or give -y")


@contextlib.contextmanager
def pulling_meanwhile(
    request: PlanRequest, settings: Settings, confirm: Confirm, on_progress: OnProgress
) -> Iterator[None]:
    """Where an engine has to be built first: pull meanwhile what the plan without one would take.

    Only saves time: what goes wrong here goes wrong again, and is said, when it is pulled in its turn.
    """
    from launcher import planning
    from launcher.inventory import MachineChoice, engine_or_none, machine_for

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
    if located is None or not isinstance(located.files, HubFiles | UrlFiles | Awaited):
        yield
        return
    _ask_about(located, sources, PullOptions(), confirm)
    pulling = threading.Thread(target=attempt, args=(located,), name="pull")
    pulling.start()
    try:
        yield
    except BaseException:
        over.set()
        raise
    finally:
        pulling.join()
