"""Bring a model here: exactly the files that are planned or named, asked about before a large download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from launcher.commands.here import Here
from launcher.commands.inspect import inspect
from launcher.errors import Interrupted
from launcher.models.catalogue import Candidate, Target
from launcher.models.fetch import bytes_to_fetch, fetch, missing_files, refuse_foreign
from launcher.models.located import HubFiles, LocalFiles, Located, PullOptions, UrlFiles
from launcher.models.url_secrets import quote_command
from launcher.progress import remark
from launcher.units import format_bytes

ASK_ABOVE_BYTES = 20 * 10**9
"""A download above this is asked about on a terminal."""

DEFAULT_OPTIONS = PullOptions()

# The planner is imported inside functions: a pull that names its quant does not wait for it (0.2 s).


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to bring here."""

    ref: str
    quant: str | None = None
    options: PullOptions = DEFAULT_OPTIONS
    # llama-server's own, from behind `--`
    flags: tuple[str, ...] = ()
    vision: bool = True  # with the projector of a model that has one
    # words that `options` does not carry, for the command that goes on after Ctrl-C
    typed: tuple[str, ...] = ()


def pull(here: Here, request: PullRequest) -> tuple[Path, ...]:
    """Bring the files of one quant here, and their companions; return all paths, the model's first.

    Raises what resolving, planning and fetching raise.
    """
    if request.flags:
        _check_flags(here, request.flags)
    target = inspect(here, request.ref, request.quant)
    if len(target.candidates) == 1:  # named, or the only one
        located = _open(here, target.candidates[0], verify=request.options.verify)
        files = (located, *_companions(here, target, _with_projector(request, target, located)))
    else:
        # else the one planned for this machine
        files = _planned_files(here, request, target)
    paths = fetch_all(here, files, _again(request), request.options)
    return tuple(path for each in paths for path in each)


def fetch_all(
    here: Here, files: Sequence[Located], again: tuple[str, ...], options: PullOptions = DEFAULT_OPTIONS
) -> tuple[tuple[Path, ...], ...]:
    """Fetch a model and its companions; return the paths of each in shard order.

    `again` is the command that goes on. Raises Interrupted on Ctrl-C, and what `models.fetch.fetch` raises.
    """
    ask_about(here, files, options)
    try:
        return fetch_each(here, files, replace(options, again=quote_command(again)))
    except KeyboardInterrupt:
        raise stopped(again) from None


def fetch_each(here: Here, files: Sequence[Located], options: PullOptions) -> tuple[tuple[Path, ...], ...]:
    """Fetch one after the other, without a question."""
    # the user's own files in the way, and the disk space for all, are looked at before the first byte
    for located in files:
        refuse_foreign(located, here.sources, options, here.on_progress)
    later = [missing_files(located, here.sources, options) for located in files[1:]]
    return tuple(
        fetch(
            located,
            here.sources,
            here.on_progress,
            replace(options, later=tuple(chain.from_iterable(later[index:]))),
        )
        for index, located in enumerate(files)
    )


def ask_about(here: Here, files: Sequence[Located], options: PullOptions = DEFAULT_OPTIONS) -> None:
    """Ask before a large download, by what is still to come. Raises Interrupted where the answer is no."""
    remote = [located for located in files if isinstance(located.files, HubFiles | UrlFiles)]
    size = sum(bytes_to_fetch(located, here.sources, options) for located in remote)
    names = " and ".join(located.model.model_id for located in remote)
    if size > ASK_ABOVE_BYTES and not here.confirm(f"Download {names}, {format_bytes(size)}?"):
        raise Interrupted("nothing was downloaded", hint="-y")


def stopped(again: tuple[str, ...]) -> Interrupted:
    """Return the error of a download that Ctrl-C ended."""
    return Interrupted("the download was stopped; what has arrived is kept", hint=quote_command(again))


def _planned_files(here: Here, request: PullRequest, target: Target) -> tuple[Located, ...]:
    from launcher.commands.plan import plan_resolved
    from launcher.commands.planned import PlanRequest, files_to_bring

    wanted = PlanRequest(ref=request.ref, quant=request.quant, flags=request.flags, vision=request.vision)
    return files_to_bring(plan_resolved(here, wanted, target))


def _check_flags(here: Here, flags: tuple[str, ...]) -> None:
    """Validate llama-server flags as `up` would, and tell the user which of them have no effect on a pull."""
    from launcher.commands.engine import engine_or_none
    from launcher.engine.capabilities import read_capabilities
    from launcher.engine.flags.argv import check_flags
    from launcher.engine.flags.companion_flags import is_companion_flag
    from launcher.engine.flags.pinned_flags import PINNED_ARITIES
    from launcher.engine.flags.rope_flags import ROPE_FLAGS
    from launcher.engine.flags.user_flags import absorb_flags, adapter_files, split_flags
    from launcher.plan.workload import Workload

    engine = engine_or_none(here, None)
    _, rest = absorb_flags(flags, Workload())
    has = read_capabilities(engine, here.settings.cache_dir).has if engine else PINNED_ARITIES.__contains__
    check_flags(rest, has)
    idle = [
        words[0]
        for name, words in split_flags(rest)
        if not (is_companion_flag(name) or name in ROPE_FLAGS or tuple(adapter_files(words)))
    ]
    if idle:
        here.on_progress(
            remark("pull", f"{', '.join(idle)}: for the server, and without effect on what is pulled")
        )


def _open(here: Here, candidate: Candidate, *, verify: bool) -> Located:
    """Read the headers; with `verify`, have local files hashed again, and fetched anew where damaged."""
    located = candidate.open(here.on_progress)
    if not (verify and isinstance(located.files, LocalFiles)):
        return located
    for path in located.files.paths:
        here.sources.store.forget_verified(path)
    return candidate.open(here.on_progress)


def _with_projector(request: PullRequest, target: Target, located: Located) -> tuple[str, ...]:
    from launcher.commands.kind_flags import find_projector

    found = find_projector(located, target.profile, request.flags) if request.vision else None
    return request.flags if found is None else (*request.flags, *found.flags)


def _companions(here: Here, target: Target, flags: tuple[str, ...]) -> tuple[Located, ...]:
    carried = target.profile.flags if target.profile else ()
    if not (carried or flags):
        return ()
    # named by typed flags, or by those of the profile
    from launcher.commands.companions import files_of, find_companions
    from launcher.engine.flags.user_flags import carried_flags
    from launcher.plan.workload import Workload

    all_flags = (*carried_flags(carried, flags, Workload()), *flags)
    return files_of(find_companions(all_flags, here.sources).remote)


def _again(request: PullRequest) -> tuple[str, ...]:
    quant = ("--quant", request.quant) if request.quant else ()
    flags = ("--", *request.flags) if request.flags else ()
    return ("launcher", "pull", request.ref, *quant, *_words(request.options), *request.typed, *flags)


def _words(options: PullOptions) -> Iterator[str]:
    if options.folder:
        yield from ("--dir", str(options.folder))
    for folder in options.look_in:
        yield from ("--from", str(folder))
    if options.verify:
        yield "--verify"
    if options.tuning:
        yield from ("--connections", str(options.tuning.connections))
