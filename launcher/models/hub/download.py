"""Bring the files of a hub repo here, whole and verified: into the Hub's own cache, or a plain folder.

Listing, auth and the cache's layout are huggingface_hub's, the bytes are fetched by `transfer`. What is here
already, in the cache or another program's store, is verified and linked instead; the disk is asked before the
first byte; every file is hashed against the Hub's LFS sha256 before it counts, and one that fails never counts.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import quote

from launcher.errors import HashMismatch, LauncherError, NotFound, TryAgain
from launcher.gguf.model import Shard
from launcher.models.files.disk_space import (
    RUN_AGAIN,
    disk_error,
    has_room,
    refuse_full_disk,
    removal_yields,
    same_file_system,
)
from launcher.models.files.other_programs import other_stores
from launcher.models.files.place import Place
from launcher.models.files.plain_folder import PlainFolder, copy_all, copy_file
from launcher.models.files.reuse import DamagedFile, Verifier
from launcher.models.hub.cache import HubCache
from launcher.models.hub.endpoint import Endpoint, not_cached, online
from launcher.models.hub.failures import why_not_arrived
from launcher.models.located import HubFiles, Located, PullOptions
from launcher.models.refs import safe_file_name
from launcher.models.store import HubStore
from launcher.models.transfer.download import Download
from launcher.models.transfer.failures import Trouble, TroubleKind
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.models.transfer.transfer import fetch_all, tuning_here
from launcher.progress import OnProgress, remark, silent
from launcher.system.locks import exclusive_if_free


def fetch_hub_files(
    located: Located,
    *,
    endpoint: Endpoint,
    store: HubStore,
    options: PullOptions | None = None,
    on_progress: OnProgress = silent,
) -> tuple[Path, ...]:
    """The local paths of all shards, in shard order; what is missing is linked or downloaded first.

    Progress is reported as phases `verify` and `pull`, in bytes. Raises TryAgain for the network, a full disk or
    bytes that are not what the Hub says, NotFound and NotAllowed by the Hub's word.
    """
    files = located.files
    if not isinstance(files, HubFiles):
        raise TypeError(f"pull takes a model of the Hub, not {type(files).__name__}")
    for shard in located.model.shards:
        _refuse_unsafe(files.repo, shard.name)
    options = options or PullOptions()
    folder = options.folder
    place = PlainFolder(folder, files.repo, store) if folder else HubCache(endpoint, files)
    work = _Pull(endpoint, files, store, place, options, on_progress)
    try:
        paths = work.run(located.model.shards)
    except OSError as error:
        raise work.disk_error(error) from error
    if folder:
        _remember(located, files, store)
    return paths


def _remember(located: Located, files: HubFiles, store: HubStore) -> None:
    """What finds the files of a plain folder again offline, where the Hub's cache knows nothing of the repo."""
    for shard, header in zip(located.model.shards, located.raw_headers, strict=True):
        if store.header(files.repo, files.commit, shard.name, shard.size_bytes) is None:
            store.keep_header(files.repo, files.commit, shard.name, shard.size_bytes, header)
    if files.revision is not None:
        store.keep_branch(files.repo, files.revision, files.commit)


class _Pull:
    """One call of `pull`, and the desk of its transfer."""

    def __init__(
        self,
        endpoint: Endpoint,
        files: HubFiles,
        store: HubStore,
        place: Place,
        options: PullOptions,
        on_progress: OnProgress,
    ) -> None:
        self._endpoint, self._files, self._store, self._place = endpoint, files, store, place
        self._options, self._on_progress = options, on_progress
        self._judge = Verifier(store=store, on_progress=on_progress, anew=options.verify)
        self._tuning = options.tuning or tuning_here()
        self._shards: dict[str, Shard] = {}
        self._again = options.again or RUN_AGAIN
        self._to_come: list[Shard] = []  # to be fetched, as far as they are not here yet
        self._damaged: dict[str, DamagedFile] = {}
        self._elsewhere: dict[str, Path] = {}  # files of this machine that are right, by the shard's name
        self._uncopied: list[Shard] = []  # those of them that cannot be linked

    def run(self, shards: tuple[Shard, ...]) -> tuple[Path, ...]:
        self._shards = {shard.name: shard for shard in shards}
        missing = self._not_here(shards)
        self._place.check(missing)
        for shard in shards:
            if shard not in missing and shard.sha256 is not None:
                self._place.own(shard)
        missing = self._link_from_elsewhere(missing)
        self._refuse_offline([shard for shard in missing if shard not in self._uncopied])
        if missing:
            self._to_come = [shard for shard in missing if self._takes_room(shard)]
            self._make_room()
        missing = self._copy_from_elsewhere(missing)
        self._refuse_offline(missing)
        for shard in shards:
            if shard.name in self._damaged:
                how = "it is fetched again" if shard in missing else "another program's file took its place"
                self._on_progress(remark("pull", f"{self._damage(shard)}; {how}"))
        wanted = [self._wanted(shard) for shard in missing]
        fetch_all(wanted, self, self._tuning, self._on_progress)
        self._place.settle()
        return tuple(self._place.path(shard) for shard in shards)

    def disk_error(self, error: OSError) -> LauncherError:
        place = self._place
        return disk_error(
            error, place.root, instead=place.instead, missing=self._lacking(), again=self._again
        )

    def find(self, wanted: Download) -> bool:
        shard = self._shards[wanted.name]
        source = self._elsewhere.get(shard.name)
        if not self._is_whole(shard):
            if source is None or not self._judge.is_right(source, shard):
                self._place.check([shard])
                return False
            if not self._link(shard, source):
                copy_file(self._place, shard, source, self._on_progress, self._again)
                self._remember_right(shard)
        elif shard.sha256 is not None:
            self._place.own(shard)
        self._to_come = [one for one in self._to_come if one is not shard]
        return True

    def _is_whole(self, shard: Shard) -> bool:
        path = self._place.find(shard)
        damaged = self._damaged.get(shard.name)
        if path is None or (damaged is not None and damaged.is_at(path)):
            return False
        return shard.sha256 is None or self._judge.is_right(path, shard)

    def accept(self, wanted: Download, part: PartialFile) -> None:
        shard = self._shards[wanted.name]
        self._place.put(shard, part)
        self._remember_right(shard)
        self._to_come = [one for one in self._to_come if one is not shard]

    def explain(self, wanted: Download, trouble: Trouble) -> LauncherError:
        if trouble.kind is TroubleKind.HASH:
            remove_partial_file(wanted.part)
        return why_not_arrived(
            wanted,
            trouble,
            endpoint=self._endpoint,
            repo=self._files.repo,
            longest_wait_s=self._tuning.longest_wait_s,
            again=self._again,
        )

    def _not_here(self, shards: tuple[Shard, ...]) -> list[Shard]:
        """Those without a file, or with one that is not what the Hub says: it stays until another takes its place."""
        places = [(shard, self._place.find(shard)) for shard in shards]
        found = [(shard, path) for shard, path in places if path is not None]
        self._damaged = self._judge.damaged(found)
        return [shard for shard, path in places if path is None or shard.name in self._damaged]

    def _refuse_offline(self, missing: list[Shard]) -> None:
        """Nothing can be fetched; a damaged file, whose place nothing can take, is kept."""
        if not (missing and self._endpoint.offline):
            return
        for shard in missing:
            if shard.name in self._damaged:
                raise HashMismatch(
                    f"{self._damage(shard)}; nothing was removed",
                    hint=f"without --offline and HF_HUB_OFFLINE it is fetched anew: {online(self._again)}",
                )
        for shard in missing:
            if shard.name not in self._elsewhere:
                thing = f"{shard.name} of {self._files.repo}"
                raise not_cached(
                    self._endpoint, thing, folder=self._options.folder, again=self._options.again
                )
        raise TryAgain(
            f"{missing[0].name} of {self._files.repo} is being downloaded by another program",
            hint=f"end that download or wait for it, then: {self._again}",
        )

    def _damage(self, shard: Shard) -> str:
        found = self._damaged[shard.name]
        return f"{found.path} is damaged: its sha256 is {found.sha256[:12]}…, the Hub says {(shard.sha256 or '')[:12]}…"

    def _make_room(self) -> None:
        """Raises TryAgain for a disk too small. A damaged file goes before its replacement is here only where the disk
        has no room for both, and has enough then."""
        place, later = self._place, self._options.later
        if not has_room(place.root, self._lacking(), later):
            later = tuple(one for one in later if not self._will_be_linked(one[0]))
        ask = partial(
            refuse_full_disk,
            place.root,
            self._lacking(),
            what=self._files.repo,
            instead=place.instead,
            again=self._options.again,
            later=later,
        )
        try:
            ask()
        except TryAgain:
            damaged = [shard for shard in self._to_come if shard.name in self._damaged]
            ask(yields=sum(removal_yields(place.path(shard), place.root) for shard in damaged))
            for shard in damaged:
                with exclusive_if_free(place.lock(shard)) as free:
                    if free:  # else another pull is replacing it
                        place.remove(shard)

    def _takes_room(self, shard: Shard) -> bool:
        """What is fetched or copied, be it later because somebody else is filling it now."""
        source = self._elsewhere.get(shard.name)
        return source is None or shard in self._uncopied or not self._can_link(source)

    def _will_be_linked(self, shard: Shard) -> bool:
        """Of what comes after these files. What is hashed for the answer is remembered until then."""
        source = self._judge.right([shard], self._folders(), ()).get(shard.name)
        return source is not None and self._can_link(source)

    def _can_link(self, source: Path) -> bool:
        folder = self._options.folder
        return folder is None or same_file_system(source, folder)

    def _lacking(self) -> list[tuple[Shard, Path]]:
        return [(shard, self._place.part(shard)) for shard in self._to_come]

    def _link_from_elsewhere(self, missing: list[Shard]) -> list[Shard]:
        """Link what is on this machine and has the right hash; what is left."""
        if not missing:
            return []
        self._elsewhere = self._judge.right(missing, self._folders(), self._damaged.values())
        return [shard for shard in missing if not self._link_if_free(shard)]

    def _folders(self) -> tuple[Path, ...]:
        """Of this machine, where a file may be that is wanted."""
        return (*self._options.look_in, *other_stores(self._endpoint.cache_dir))

    def _link_if_free(self, shard: Shard) -> bool:
        """Whether a file was linked: there is one, and nobody is filling the shard's partial file. Where somebody is, the
        transfer waits for the lock, and `find` takes what is there by then."""
        source = self._elsewhere.get(shard.name)
        if source is None:
            return False
        with exclusive_if_free(self._place.lock(shard)) as free:
            if not free:
                return False
            linked = self._link(shard, source)
        if not linked:
            self._uncopied.append(shard)
        return linked

    def _link(self, shard: Shard, source: Path) -> bool:
        """With the shard's lock held: its partial file goes where this could link."""
        linked = self._place.link(shard, source)
        if linked:
            self._remember_right(shard)
        return linked

    def _remember_right(self, shard: Shard) -> None:
        """Its file was hashed on its way here."""
        if shard.sha256 is not None:
            self._store.keep_verified(self._place.path(shard).resolve(), shard.sha256)

    def _copy_from_elsewhere(self, missing: list[Shard]) -> list[Shard]:
        """Copy what could not be linked; what is left."""
        sources = [(shard, self._elsewhere[shard.name]) for shard in self._uncopied]
        held = copy_all(self._place, sources, self._on_progress, self._again)
        copied = [shard for shard in self._uncopied if shard not in held]
        self._to_come = [shard for shard in self._to_come if shard not in copied]
        for shard in copied:
            self._remember_right(shard)
        return [shard for shard in missing if shard not in copied]

    def _wanted(self, shard: Shard) -> Download:
        endpoint, files = self._endpoint, self._files
        headers = (("Authorization", f"Bearer {endpoint.token}"),) if endpoint.token else ()
        return Download(
            name=shard.name,
            size_bytes=shard.size_bytes,
            sha256=shard.sha256,
            url=f"{endpoint.url}/{files.repo}/resolve/{files.commit}/{quote(shard.name)}",
            headers=headers,
            part=self._place.part(shard),
            lock=self._place.lock(shard),
            identity=self._place.identity(shard.sha256 or f"{files.repo}@{files.commit}/{shard.name}"),
        )


def _refuse_unsafe(repo: str, name: str) -> None:
    wrong = safe_file_name(name)
    if wrong is not None:
        raise NotFound(f"the file name {name!r} in {repo} {wrong}", hint="name another file of the repo")
