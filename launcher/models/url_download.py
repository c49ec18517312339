"""Fetch the files of a URL, checked before they count."""

from __future__ import annotations

import hashlib
from pathlib import Path

from launcher.errors import LauncherError, TryAgain
from launcher.gguf.model import Shard
from launcher.models.files.disk_space import RUN_AGAIN, Destination, MissingFile, disk_error, refuse_full_disk
from launcher.models.files.place import partial_path_of
from launcher.models.files.plain_folder import PlainFolder, lock_path_of
from launcher.models.located import Located, PullOptions, UrlFiles
from launcher.models.store import HubStore
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.models.transfer.transfer import download_all, tuning_here
from launcher.models.url import file_name, shard_urls, why_url_not_read
from launcher.models.url_secrets import strip_secrets
from launcher.progress import OnProgress
from launcher.system.network.trouble import Trouble, TroubleKind
from launcher.system.small_files import open_regular

# The server has another file now than when the header was read.
_CHANGED = frozenset({TroubleKind.CHANGED, TroubleKind.MISFIT})
_BROKEN = frozenset({TroubleKind.BROKE, TroubleKind.UNREACHABLE})
_ALTERNATIVE = "set LAUNCHER_HOME to a folder elsewhere"


def fetch_url_files(
    located: Located,
    files: UrlFiles,
    folder: Path,
    on_progress: OnProgress,
    options: PullOptions,
    place: PlainFolder | None = None,
) -> tuple[Path, ...]:
    """Fetch the shards into `folder` unless they are there; return their paths in shard order.

    Raises TryAgain for network and disk, NotFound, NotAllowed, UsageError if another file is in the way.
    """
    # `place` is `folder` if the user named it
    recipient = _UrlRecipient(located, files, folder, place, options.again or RUN_AGAIN)
    alternative = place.alternative if place else _ALTERNATIVE
    destination = Destination(folder=folder, alternative=alternative, retry=options.again)
    missing = recipient.missing()
    try:
        if place is not None:
            place.refuse_foreign(shard for shard, _ in missing)
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            refuse_full_disk(destination, missing, what=located.model.source, later=options.later)
        downloads = [recipient.download_of(shard) for shard, _ in missing]
        download_all(downloads, recipient, options.tuning or tuning_here(), on_progress)
    except OSError as error:
        still_missing = [(shard, part) for shard, part in missing if not recipient.is_there(shard.name)]
        raise disk_error(error, destination, missing=still_missing) from error
    return tuple(folder / shard.name for shard in located.model.shards)


def missing_url_files(located: Located, files: UrlFiles, folder: Path) -> list[MissingFile]:
    return _UrlRecipient(located, files, folder).missing()


def url_folder(models_dir: Path, files: UrlFiles) -> Path:
    # A signed link has another query every time.
    return models_dir / hashlib.sha256(strip_secrets(files.urls[0]).encode()).hexdigest()[:40]


def kept_file(models_dir: Path, url: str, store: HubStore) -> Path | None:
    """Find the first shard fetched from this URL before; None if a file is missing."""
    # No server is asked: the files are what it had when they were fetched.
    urls = shard_urls(url)
    names = [file_name(url) for url in urls]
    folder = url_folder(models_dir, UrlFiles(urls=urls))
    if all((folder / name).is_file() for name in names):
        return folder / names[0]
    owners, owner = store.owners(), strip_secrets(urls[0])
    for folder in reversed(store.folders()):
        if all(owners.of(folder / name) == owner for name in names):
            return folder / names[0]
    return None


class _UrlRecipient:
    """The recipient of a URL's files."""

    def __init__(
        self,
        located: Located,
        files: UrlFiles,
        folder: Path,
        place: PlainFolder | None = None,
        again: str = RUN_AGAIN,
    ) -> None:
        self._folder, self._place, self._again = folder, place, again
        shards = located.model.shards
        self._shards = {shard.name: shard for shard in shards}
        self._urls = {shard.name: url for shard, url in zip(shards, files.urls, strict=True)}
        self._headers = {shard.name: raw for shard, raw in zip(shards, located.raw_headers, strict=True)}

    def missing(self) -> list[MissingFile]:
        """Return the shards that are not here, each with its partial file."""
        return [
            (shard, partial_path_of(self._folder / name))
            for name, shard in self._shards.items()
            if not self.is_there(name)
        ]

    def download_of(self, shard: Shard) -> Download:
        url = self._urls[shard.name]
        path = self._folder / shard.name
        return Download(
            name=shard.name,
            size_bytes=shard.size_bytes,
            sha256=None,
            url=url,
            partial_path=partial_path_of(path),
            lock_path=lock_path_of(path),
            identity=self._place.identity(strip_secrets(url)) if self._place else strip_secrets(url),
            pins_version=True,  # continued only while the ETag, else the date, is the same
        )

    def is_there(self, name: str) -> bool:
        """Return True if the file has the size and header that the server has now."""
        path = self._folder / name
        if self._place is not None and self._place.find(self._shards[name]) is None:
            return False
        return (
            path.is_file()
            and path.stat().st_size == self._shards[name].size_bytes
            and self._has_header(path, name)
        )

    def find_locally(self, download: Download) -> bool:
        is_there = self.is_there(download.name)
        if self._place is not None and not is_there:
            self._place.refuse_foreign([self._shards[download.name]])
        return is_there

    def accept(self, download: Download, partial_file: PartialFile) -> None:
        # It gets its name only with the very header that was read when it was planned.
        if not self._has_header(partial_file.path, download.name):
            remove_partial_file(partial_file.path)
            raise self._changed(download)
        if self._place is not None:
            self._place.accept(self._shards[download.name], partial_file)
        else:
            partial_file.become(self._folder / download.name)

    def _has_header(self, path: Path, name: str) -> bool:
        expected = self._headers[name]
        with open_regular(path) as file:
            return file.read(len(expected)) == expected

    def explain(self, download: Download, trouble: Trouble) -> LauncherError:
        if trouble.kind in _CHANGED:
            return self._changed(download)
        if trouble.kind not in _BROKEN:
            return why_url_not_read(trouble, download.url)
        return TryAgain(
            f"{strip_secrets(download.url)} did not arrive whole: {trouble.reason}",
            hint=f"it goes on where it stopped: {self._again}",
        )

    def _changed(self, download: Download) -> TryAgain:
        return TryAgain(f"{strip_secrets(download.url)} changed since its header was read", hint=self._again)
