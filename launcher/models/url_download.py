"""Fetching what `url` opened, by `transfer`: resumed where it stopped, checked before it counts.

A partial file is gone on with only while the server names the same version of it (ETag, else the date). It gets its
name once it has the size and the very header that were read when it was planned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from launcher.errors import LauncherError, TryAgain
from launcher.models.files.disk_space import RUN_AGAIN, MissingFile, disk_error, refuse_full_disk
from launcher.models.files.place import partial_path_of
from launcher.models.files.plain_folder import PlainFolder, lock_path_of
from launcher.models.located import Located, UrlFiles
from launcher.models.store import HubStore
from launcher.models.transfer.download import Download
from launcher.models.transfer.failures import Trouble, TroubleKind
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.models.transfer.transfer import fetch_all, tuning_here
from launcher.models.transfer.tuning import Tuning
from launcher.models.url import file_name, refused, shard_urls
from launcher.models.url_secrets import strip_secrets
from launcher.progress import OnProgress

_CHANGED = frozenset({TroubleKind.CHANGED, TroubleKind.MISFIT})
_INSTEAD = "set LAUNCHER_HOME to a folder elsewhere"


def fetch_url_files(
    located: Located,
    files: UrlFiles,
    folder: Path,
    on_progress: OnProgress,
    tuning: Tuning | None = None,
    place: PlainFolder | None = None,
    later: Iterable[MissingFile] = (),
    again: str = "",
) -> tuple[Path, ...]:
    """Local paths of all shards in `folder`, those fetched before taken as they are. `place` is the folder where the user
    named it: it may have files of other things. `later` is fetched after these, and the disk is asked for it too; `again` is the command that goes on, where it is known.

    Raises TryAgain for network and disk, NotFound and NotAllowed as the server answers, UsageError for a file of
    something else in `place`.
    """
    shards = located.model.shards
    desk = _Desk(located, files, folder, place, again or RUN_AGAIN)
    instead = place.instead if place else _INSTEAD
    wanted = [desk.wanted(index) for index in range(len(shards)) if not desk.is_there(index)]
    try:
        if place is not None:
            place.check(shards[desk.index(one)] for one in wanted)
        if wanted:
            folder.mkdir(parents=True, exist_ok=True)
            missing = [(shards[desk.index(one)], one.part) for one in wanted]
            what = located.model.source
            refuse_full_disk(folder, missing, what=what, instead=instead, again=again, later=later)
        fetch_all(wanted, desk, tuning or tuning_here(), on_progress)
    except OSError as error:
        missing = [
            (shards[desk.index(one)], one.part) for one in wanted if not desk.is_there(desk.index(one))
        ]
        raise disk_error(error, folder, instead=instead, missing=missing, again=again or RUN_AGAIN) from error
    return tuple(folder / shard.name for shard in shards)


def missing_url_files(located: Located, files: UrlFiles, folder: Path) -> list[MissingFile]:
    """What fetching these files into `folder` would have to bring."""
    desk = _Desk(located, files, folder)
    return [
        (shard, desk.wanted(index).part)
        for index, shard in enumerate(located.model.shards)
        if not desk.is_there(index)
    ]


def url_folder(models_dir: Path, files: UrlFiles) -> Path:
    """Where the files of this URL are kept. Its query does not count: a signed link has another one every time."""
    return models_dir / hashlib.sha256(strip_secrets(files.urls[0]).encode()).hexdigest()[:40]


def kept_file(models_dir: Path, url: str, store: HubStore) -> Path | None:
    """The first file of a model that was fetched from this URL before, into a folder that was named too; None where one of
    its files is not here. It is what the server had then: nobody is asked."""
    urls = shard_urls(url)
    names = [file_name(one) for one in urls]
    folder = url_folder(models_dir, UrlFiles(urls=urls))
    if all((folder / name).is_file() for name in names):
        return folder / names[0]
    owners, owner = store.owners(), strip_secrets(urls[0])
    for folder in reversed(store.folders()):
        if all(owners.of(folder / name) == owner for name in names):
            return folder / names[0]
    return None


class _Desk:
    def __init__(
        self,
        located: Located,
        files: UrlFiles,
        folder: Path,
        place: PlainFolder | None = None,
        again: str = RUN_AGAIN,
    ) -> None:
        self._located, self._files, self._folder, self._place = located, files, folder, place
        self._again = again
        self._names = [shard.name for shard in located.model.shards]

    def wanted(self, index: int) -> Download:
        shard, url = self._located.model.shards[index], self._files.urls[index]
        path = self._folder / shard.name
        return Download(
            name=shard.name,
            size_bytes=shard.size_bytes,
            sha256=None,
            url=url,
            part=partial_path_of(path),
            lock=lock_path_of(path),
            identity=self._place.identity(strip_secrets(url)) if self._place else strip_secrets(url),
            pins_version=True,
        )

    def index(self, wanted: Download) -> int:
        return self._names.index(wanted.name)

    def is_there(self, index: int) -> bool:
        """A file of the size and with the header that the server has now."""
        shard = self._located.model.shards[index]
        path = self._folder / shard.name
        return path.is_file() and path.stat().st_size == shard.size_bytes and self._has_header(path, index)

    def find(self, wanted: Download) -> bool:
        index = self.index(wanted)
        is_there = self.is_there(index)
        if self._place is not None and not is_there:
            self._place.check([self._located.model.shards[index]])
        return is_there

    def accept(self, wanted: Download, part: PartialFile) -> None:
        if not self._has_header(part.path, self.index(wanted)):
            remove_partial_file(part.path)
            raise self._changed(wanted)
        if self._place is not None:
            self._place.put(self._located.model.shards[self.index(wanted)], part)
        else:
            part.become(self._folder / wanted.name)

    def _has_header(self, path: Path, index: int) -> bool:
        expected = self._located.raw_headers[index]
        with path.open("rb") as file:
            return file.read(len(expected)) == expected

    def explain(self, wanted: Download, trouble: Trouble) -> LauncherError:
        if trouble.kind in _CHANGED:
            return self._changed(wanted)
        if trouble.status is not None:
            return refused(trouble.status, strip_secrets(wanted.url))
        return TryAgain(
            f"{strip_secrets(wanted.url)} did not arrive whole: {trouble.reason}",
            hint=f"it goes on where it stopped: {self._again}",
        )

    def _changed(self, wanted: Download) -> TryAgain:
        return TryAgain(f"{strip_secrets(wanted.url)} changed since its header was read", hint=self._again)
