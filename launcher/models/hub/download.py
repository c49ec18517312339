"""Bring the files of a Hub repo here, whole and verified."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import quote

from launcher.errors import HashMismatch, LauncherError, NotFound, TryAgain
from launcher.gguf.model import Shard
from launcher.models.files.copying import Copier
from launcher.models.files.disk_space import (
    RUN_AGAIN,
    Destination,
    MissingFile,
    disk_error,
    freed_by_removal,
    has_room,
    refuse_full_disk,
)
from launcher.models.files.place import Place
from launcher.models.files.plain_folder import PlainFolder
from launcher.models.files.reuse import DamagedFile, Verifier
from launcher.models.hub.cache import HubCache
from launcher.models.hub.endpoint import Endpoint, not_cached, online
from launcher.models.hub.failures import why_not_arrived
from launcher.models.hub.local_copies import LocalCopies
from launcher.models.located import HubFiles, Located, PullOptions
from launcher.models.refs import safe_file_name
from launcher.models.store import HubStore
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.models.transfer.transfer import download_all, tuning_here
from launcher.progress import OnProgress, remark, silent
from launcher.system.locks import exclusive_if_free
from launcher.system.network.trouble import Trouble, TroubleKind


def fetch_hub_files(
    located: Located,
    *,
    endpoint: Endpoint,
    store: HubStore,
    options: PullOptions | None = None,
    on_progress: OnProgress = silent,
) -> tuple[Path, ...]:
    """Link or download what is missing; return the local paths of all shards, in shard order.

    Progress is reported as phases `verify`, `copy` and `pull`, in bytes. Raises TryAgain for the network, a
    full disk or wrong bytes, NotFound and NotAllowed as the Hub answers.
    """
    files = located.files
    if not isinstance(files, HubFiles):
        raise TypeError(f"fetch_hub_files takes a model of the Hub, not {type(files).__name__}")
    for shard in located.model.shards:
        _refuse_unsafe_name(files.repo, shard.name)
    options = options or PullOptions()
    folder = options.folder
    place = PlainFolder(folder, files.repo, store) if folder else HubCache(endpoint, files)
    fetch = _HubFetch(endpoint, files, store, place, options, on_progress)
    try:
        paths = fetch.run(located.model.shards)
    except OSError as error:
        raise fetch.disk_error(error) from error
    if folder:
        _remember_for_offline(located, files, store)
    return paths


class _HubFetch:
    """One call of `fetch_hub_files`, and the transfer's `Recipient`."""

    def __init__(
        self,
        endpoint: Endpoint,
        files: HubFiles,
        store: HubStore,
        place: Place,
        options: PullOptions,
        on_progress: OnProgress,
    ) -> None:
        self._endpoint, self._files, self._place = endpoint, files, place
        self._options, self._on_progress = options, on_progress
        self._retry = options.again or RUN_AGAIN
        self._destination = Destination(folder=place.root, alternative=place.alternative, retry=options.again)
        self._verifier = Verifier(store=store, on_progress=on_progress, rehash=options.verify)
        copier = Copier(place=place, retry=self._retry, on_progress=on_progress)
        self._local_copies = LocalCopies(place, self._verifier, copier, options, endpoint.cache_dir)
        self._tuning = options.tuning or tuning_here()
        self._shards: dict[str, Shard] = {}
        self._damaged: dict[str, DamagedFile] = {}  # by the shard's name
        self._to_come: list[Shard] = []  # to be downloaded or copied, and not here yet

    def run(self, shards: tuple[Shard, ...]) -> tuple[Path, ...]:
        self._shards = {shard.name: shard for shard in shards}
        missing = self._missing_or_damaged(shards)
        self._place.refuse_foreign(missing)
        for shard in shards:
            if shard not in missing and shard.sha256 is not None:
                self._place.record_owner(shard)
        missing = self._local_copies.link_all(missing, self._damaged.values())
        self._refuse_offline([shard for shard in missing if not self._local_copies.will_copy(shard)])
        if missing:
            self._to_come = [shard for shard in missing if self._local_copies.needs_space(shard)]
            self._claim_disk_space()
        missing = self._local_copies.copy_all(missing)
        self._to_come = [shard for shard in self._to_come if shard in missing]
        self._refuse_offline(missing)
        for shard in shards:
            if shard.name in self._damaged:
                how = "it is fetched again" if shard in missing else "another program's file took its place"
                self._on_progress(remark("pull", f"{self._damage(shard)}; {how}"))
        downloads = [self._download(shard) for shard in missing]
        download_all(downloads, self, self._tuning, self._on_progress)
        self._place.finish()
        return tuple(self._place.path(shard) for shard in shards)

    def disk_error(self, error: OSError) -> LauncherError:
        return disk_error(error, self._destination, missing=self._missing_files())

    def find_locally(self, download: Download) -> bool:
        shard = self._shards[download.name]
        if not self._is_whole(shard):
            if not self._local_copies.bring(shard):
                self._place.refuse_foreign([shard])
                return False
        elif shard.sha256 is not None:
            self._place.record_owner(shard)
        self._to_come = [other for other in self._to_come if other is not shard]
        return True

    def accept(self, download: Download, partial_file: PartialFile) -> None:
        shard = self._shards[download.name]
        self._place.accept(shard, partial_file)
        self._verifier.remember(self._place.path(shard), shard)
        self._to_come = [other for other in self._to_come if other is not shard]

    def explain(self, download: Download, trouble: Trouble) -> LauncherError:
        if trouble.kind is TroubleKind.HASH:
            remove_partial_file(download.partial_path)
        return why_not_arrived(
            download,
            trouble,
            endpoint=self._endpoint,
            repo=self._files.repo,
            longest_wait_s=self._tuning.longest_wait_s,
            again=self._retry,
        )

    def _is_whole(self, shard: Shard) -> bool:
        path = self._place.find(shard)
        damaged = self._damaged.get(shard.name)
        if path is None or (damaged is not None and damaged.is_at(path)):
            return False
        return shard.sha256 is None or self._verifier.has_hash(path, shard)

    def _missing_or_damaged(self, shards: tuple[Shard, ...]) -> list[Shard]:
        """Return the shards to bring. A damaged file stays until another takes its place."""
        places = [(shard, self._place.find(shard)) for shard in shards]
        self._damaged = self._verifier.find_damaged(
            [(shard, path) for shard, path in places if path is not None]
        )
        return [shard for shard, path in places if path is None or shard.name in self._damaged]

    def _refuse_offline(self, missing: list[Shard]) -> None:
        """Raise the error that says what cannot be fetched offline. Damaged files are kept."""
        if not (missing and self._endpoint.offline):
            return
        for shard in missing:
            if shard.name in self._damaged:
                raise HashMismatch(
                    f"{self._damage(shard)}; nothing was removed",
                    hint=f"without --offline and HF_HUB_OFFLINE it is fetched anew: {online(self._retry)}",
                )
        for shard in missing:
            if not self._local_copies.has(shard):
                thing = f"{shard.name} of {self._files.repo}"
                raise not_cached(
                    self._endpoint, thing, folder=self._options.folder, again=self._options.again
                )
        # all of them are on this machine: only a lock is in the way
        raise TryAgain(
            f"{missing[0].name} of {self._files.repo} is being downloaded by another program",
            hint=f"end that download or wait for it, then: {self._retry}",
        )

    def _damage(self, shard: Shard) -> str:
        damaged = self._damaged[shard.name]
        found, expected = damaged.sha256[:12], (shard.sha256 or "")[:12]
        return f"{damaged.path} is damaged: its sha256 is {found}…, the Hub says {expected}…"

    def _claim_disk_space(self) -> None:
        """Raise TryAgain if the disk is too small."""
        # Damaged files are removed early only if the disk has no space for both, and has enough without them.
        place, later = self._place, self._options.later
        if not has_room(place.root, self._missing_files(), later):
            later = tuple(file for file in later if not self._local_copies.will_link_later(file[0]))
        refuse = partial(
            refuse_full_disk,
            self._destination,
            self._missing_files(),
            what=self._files.repo,
            later=later,
        )
        try:
            refuse()
        except TryAgain:
            damaged = [shard for shard in self._to_come if shard.name in self._damaged]
            refuse(freed_bytes=sum(freed_by_removal(place.path(shard), place.root) for shard in damaged))
            for shard in damaged:
                with exclusive_if_free(place.lock_path(shard)) as free:
                    if free:  # else another pull is replacing it
                        place.remove(shard)

    def _missing_files(self) -> list[MissingFile]:
        return [(shard, self._place.partial_path(shard)) for shard in self._to_come]

    def _download(self, shard: Shard) -> Download:
        endpoint, files = self._endpoint, self._files
        return Download(
            name=shard.name,
            size_bytes=shard.size_bytes,
            sha256=shard.sha256,
            url=f"{endpoint.url}/{files.repo}/resolve/{files.commit}/{quote(shard.name)}",
            headers=endpoint.authorization,
            partial_path=self._place.partial_path(shard),
            lock_path=self._place.lock_path(shard),
            identity=self._place.identity(shard.sha256 or f"{files.repo}@{files.commit}/{shard.name}"),
        )


def _remember_for_offline(located: Located, files: HubFiles, store: HubStore) -> None:
    """Keep what finds the files of a plain folder offline."""
    # the Hub's cache knows nothing of the repo
    for shard, header in zip(located.model.shards, located.raw_headers, strict=True):
        if store.header(files.repo, files.commit, shard.name, shard.size_bytes) is None:
            store.keep_header(files.repo, files.commit, shard.name, shard.size_bytes, header)
    if files.revision is not None:
        store.keep_branch(files.repo, files.revision, files.commit)


def _refuse_unsafe_name(repo: str, name: str) -> None:
    wrong = safe_file_name(name)
    if wrong is not None:
        raise NotFound(f"the file name {name!r} in {repo} {wrong}", hint="name another file of the repo")
