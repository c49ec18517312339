"""What bringing a located model here would fetch, and bringing it: from whichever kind of place its files are in.

What talks to the Hub is imported where it is needed: a model that is here must not wait for a library it does not use.
"""

from __future__ import annotations

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
from launcher.progress import OnProgress


def fetch(
    located: Located, sources: Sources, on_progress: OnProgress, options: PullOptions | None = None
) -> tuple[Path, ...]:
    """The local paths of all its files, in shard order; the first is what llama-server is given.

    Raises NotFound for saved headers (there are no weights), TryAgain, NotAllowed.
    """
    options = options or PullOptions()
    named = (*options.look_in, *((options.folder,) if options.folder else ()))
    if named:
        sources.store.keep_folders(named)
    match located.files:
        case LocalFiles(paths=paths):
            if options.folder is None:
                return paths
            from launcher.models.files.plain_folder import put_into_folder

            return put_into_folder(
                located.model,
                paths,
                options.folder,
                sources.store,
                on_progress,
                options.again,
                options.later,
            )
        case HubFiles():
            from launcher.models.hub.download import fetch_hub_files

            return fetch_hub_files(
                located,
                endpoint=sources.endpoint,
                store=sources.store,
                options=options,
                on_progress=on_progress,
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


def _fetch_urls(
    located: Located, files: UrlFiles, sources: Sources, on_progress: OnProgress, options: PullOptions
) -> tuple[Path, ...]:
    from launcher.models.files.plain_folder import PlainFolder
    from launcher.models.url_download import fetch_url_files, url_folder

    named = options.folder
    return fetch_url_files(
        located,
        files,
        named or url_folder(sources.models_dir, files),
        on_progress,
        options.tuning,
        PlainFolder(named, located.model.source, sources.store) if named else None,
        options.later,
        options.again,
    )


def refuse_foreign(located: Located, sources: Sources, options: PullOptions) -> None:
    """Raises UsageError where a file of something else has the name of one of these in the folder that was named. One of
    the listed size is judged by its hash, in its turn."""
    if options.folder is None or isinstance(located.files, DeferredFiles):
        return
    from launcher.models.files.plain_folder import PlainFolder

    owner = located.files.repo if isinstance(located.files, HubFiles) else located.model.source
    place = PlainFolder(options.folder, owner, sources.store)
    place.check(shard for shard in located.model.shards if place.find(shard) is None)


def bytes_to_fetch(located: Located, sources: Sources, options: PullOptions | None = None) -> int:
    """What a pull would download: what is here whole does not count, nor what has arrived of the rest. Files of other
    programs count until a pull has looked into them."""
    from launcher.models.transfer.journal import arrived_bytes

    if isinstance(located.files, UnreachableFiles | DeferredFiles):
        return located.model.size_bytes
    files = missing_files(located, sources, options)
    return sum(shard.size_bytes - arrived_bytes(part) for shard, part in files)


def missing_files(
    located: Located, sources: Sources, options: PullOptions | None = None
) -> list[MissingFile]:
    """The files that a pull would have to fetch or copy, as far as that is known without asking anybody."""
    folder = options.folder if options else None
    match located.files:
        case HubFiles() as files:
            from launcher.models.hub import cache

            return cache.to_come(sources.endpoint, files, located.model.shards, folder)
        case UrlFiles() as files:
            from launcher.models import url_download

            folder = folder or url_download.url_folder(sources.models_dir, files)
            return url_download.missing_url_files(located, files, folder)
        case LocalFiles(paths=paths) if folder is not None:
            from launcher.models.files import plain_folder

            return plain_folder.to_come(located.model, paths, folder)
        case _:
            return []
