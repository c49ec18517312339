"""Bring a located model here. What talks to the Hub is imported only when needed."""

from __future__ import annotations

import shlex
from pathlib import Path

from launcher.errors import NotFound, TryAgain
from launcher.models.catalogue import Sources
from launcher.models.files.disk_space import MissingFile
from launcher.models.located import (
    DeferredFiles,
    HubFiles,
    LocalFiles,
    Located,
    PullOptions,
    SavedHeaders,
    UnreachableFiles,
    UrlFiles,
)
from launcher.progress import OnProgress, remark, silent
from launcher.system.owned_files import is_anybodys


def fetch(
    located: Located, sources: Sources, on_progress: OnProgress, options: PullOptions | None = None
) -> tuple[Path, ...]:
    """Bring all files of `located` here; return their paths. llama-server is given the first.

    Raises NotFound for saved headers (there are no weights), TryAgain, NotAllowed.
    """
    options = options or PullOptions()
    named = (*options.look_in, *((options.folder,) if options.folder else ()))
    if named:
        sources.store.keep_folders(named)
    match located.files:
        case LocalFiles(paths=paths):
            return _link_or_copy(located, paths, sources, on_progress, options)
        case HubFiles():
            from launcher.models.hub.download import fetch_hub_files

            endpoint, store = sources.endpoint, sources.store
            return fetch_hub_files(
                located, endpoint=endpoint, store=store, options=options, on_progress=on_progress
            )
        case UrlFiles() as files:
            return _fetch_urls(located, files, sources, on_progress, options)
        case DeferredFiles(locate=locate):
            return fetch(locate(on_progress), sources, on_progress, options)
        case SavedHeaders(path=path):
            raise NotFound(
                f"{path} holds headers only, no weights", hint=f"launcher up {located.model.model_id}"
            )
        case UnreachableFiles(repo=repo, cause=cause):
            raise TryAgain(f"{repo} was not reached: {cause}", hint=f"launcher pull {located.model.model_id}")


def _link_or_copy(
    located: Located,
    paths: tuple[Path, ...],
    sources: Sources,
    on_progress: OnProgress,
    options: PullOptions,
) -> tuple[Path, ...]:
    if options.folder is None:
        return paths
    from launcher.models.files.copying import put_into_folder

    return put_into_folder(located, store=sources.store, options=options, on_progress=on_progress)


def _fetch_urls(
    located: Located, files: UrlFiles, sources: Sources, on_progress: OnProgress, options: PullOptions
) -> tuple[Path, ...]:
    from launcher.models.files.plain_folder import PlainFolder
    from launcher.models.url_download import fetch_url_files, url_folder

    if options.folder is None:
        return fetch_url_files(located, files, url_folder(sources.models_dir, files), on_progress, options)
    place = PlainFolder(options.folder, located.model.source, sources.store)
    return fetch_url_files(located, files, options.folder, on_progress, options, place)


def refuse_foreign(
    located: Located, sources: Sources, options: PullOptions, on_progress: OnProgress = silent
) -> None:
    """Raise UsageError if another file is in the way in the named folder; say if all may write there."""
    if options.folder is None or isinstance(located.files, DeferredFiles):
        return
    if is_anybodys(options.folder):
        on_progress(remark("pull", _exchangeable(options.folder)))
    from launcher.models.files.plain_folder import PlainFolder

    owner = located.files.repo if isinstance(located.files, HubFiles) else located.model.source
    place = PlainFolder(options.folder, owner, sources.store)
    # A file of the listed size may be the right one: its hash decides when its turn comes.
    place.refuse_foreign(shard for shard in located.model.shards if place.find(shard) is None)


def _exchangeable(folder: Path) -> str:
    return (
        f"every user can exchange files in {folder}, also those that were verified"
        f" (chmod o-w {shlex.quote(str(folder))}, or chmod +t, ends that)"
    )


def bytes_to_fetch(located: Located, sources: Sources, options: PullOptions | None = None) -> int:
    """Return how many bytes a pull would download; files of other programs count."""
    from launcher.models.transfer.journal import arrived_bytes

    # Nobody was asked what is here of these.
    if isinstance(located.files, UnreachableFiles | DeferredFiles):
        return located.model.size_bytes
    files = missing_files(located, sources, options)
    return sum(max(0, shard.size_bytes - arrived_bytes(part)) for shard, part in files)


def missing_files(
    located: Located, sources: Sources, options: PullOptions | None = None
) -> list[MissingFile]:
    """Return what a pull would fetch or copy, as far as is known without asking anybody."""
    folder = options.folder if options else None
    match located.files:
        case HubFiles() as files:
            from launcher.models.hub import cache

            return cache.missing_hub_files(sources.endpoint, files, located.model.shards, folder)
        case UrlFiles() as files:
            from launcher.models import url_download

            folder = folder or url_download.url_folder(sources.models_dir, files)
            return url_download.missing_url_files(located, files, folder)
        case LocalFiles(paths=paths) if folder is not None:
            from launcher.models.files import copying

            return copying.missing_copies(located.model, paths, folder)
        case _:
            return []
