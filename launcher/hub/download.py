"""Bring the files of a hub repo here, whole and verified: into the Hub's own cache, or a plain folder.

Listing, auth and the cache's layout are huggingface_hub's, the bytes are fetched by `transfer`. What is here
already, in the cache or another program's store, is verified and linked instead; the disk is asked before the
first byte; every file is hashed against the Hub's LFS sha256 before it counts, and one that fails never counts.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import httpx2
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

from launcher.errors import LauncherError, NotFound, TryAgain, UsageError
from launcher.hub.elsewhere import candidates, other_stores
from launcher.hub.endpoint import Endpoint, explained, not_cached
from launcher.hub.hashing import verify
from launcher.hub.located import HubFiles, Located, PullOptions
from launcher.hub.places import HubCache, Place, PlainFolder
from launcher.hub.refs import safe_file_name
from launcher.hub.room import disk_error, refuse_full_disk
from launcher.hub.store import HubStore
from launcher.hub.transfer.crew import fetch_all
from launcher.hub.transfer.part import Part, remove_part
from launcher.hub.transfer.trouble import Trouble, TroubleKind
from launcher.hub.transfer.wanted import Wanted
from launcher.hub.trust import HINT
from launcher.model import Shard
from launcher.progress import OnProgress, silent

_GO_ON = "run it again: it goes on where it stopped"


def pull(
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
    place = PlainFolder(options.folder) if options.folder else HubCache(endpoint, files)
    work = _Pull(endpoint, files, store, place, options, on_progress)
    try:
        return work.run(located.model.shards)
    except OSError as error:
        raise disk_error(error, place.root, instead=place.instead) from error


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
        self._shards: dict[str, Shard] = {}

    def run(self, shards: tuple[Shard, ...]) -> tuple[Path, ...]:
        self._shards = {shard.name: shard for shard in shards}
        missing = self._not_here(shards)
        missing = self._link_from_elsewhere(missing)
        if missing and self._endpoint.offline:
            raise not_cached(self._endpoint, f"{missing[0].name} of {self._files.repo}")
        if missing:
            refuse_full_disk(
                self._place.root,
                [(shard, self._place.part(shard)) for shard in missing],
                what=self._files.repo,
                instead=self._place.instead,
            )
        wanted = [self._wanted(shard) for shard in missing]
        fetch_all(wanted, self, self._options.tuning, self._on_progress)
        self._place.settle()
        return tuple(self._place.path(shard) for shard in shards)

    def find(self, wanted: Wanted) -> bool:
        shard = self._shards[wanted.name]
        path = self._place.find(shard)
        if path is None:
            return False
        return (
            shard.sha256 is None
            or self._store.is_verified(path.resolve(), shard.sha256)
            or (verify([(path, shard.sha256)], self._store, self._on_progress)[0])
        )

    def accept(self, wanted: Wanted, part: Part) -> None:
        shard = self._shards[wanted.name]
        self._place.put(shard, part)
        if shard.sha256 is not None:
            self._store.keep_verified(self._place.path(shard).resolve(), shard.sha256)

    def explain(self, wanted: Wanted, trouble: Trouble) -> LauncherError:
        thing, host = f"{wanted.name} of {self._files.repo}", self._endpoint.host
        if trouble.kind is TroubleKind.HASH:
            remove_part(wanted.part)
            return TryAgain(
                f"{thing} has the sha256 {trouble.reason[:12]}…, {host} says {(wanted.sha256 or '')[:12]}…",
                hint="it was fetched twice; the damaged file was removed",
            )
        waits = trouble.retry_after_s or 0.0
        if trouble.kind is TroubleKind.BUSY and waits > self._options.tuning.longest_wait_s:
            return TryAgain(
                f"{host} is busy and asks to wait {waits:.0f} s",
                hint="run it again then; with a token in HF_TOKEN the Hub's limits are higher",
            )
        if trouble.kind in {TroubleKind.REFUSED, TroubleKind.LINK} and trouble.status is not None:
            return self._refusal(wanted, trouble)
        if trouble.kind is TroubleKind.REFUSED:
            return UsageError(f"{thing} cannot be fetched: {trouble.reason}", hint=HINT)
        return TryAgain(f"{thing} did not arrive whole: {trouble.reason}", hint=_GO_ON)

    def _refusal(self, wanted: Wanted, trouble: Trouble) -> LauncherError:
        """As huggingface_hub reads the answer. The address is ours: the one that answered may be a signed link."""
        answer = httpx2.Response(
            trouble.status or 0, headers=list(trouble.headers), request=httpx2.Request("GET", wanted.url)
        )
        try:
            with explained(self._endpoint, self._files.repo, wanted.name):
                hf_raise_for_status(answer)
        except LauncherError as error:
            return error
        return TryAgain(f"{wanted.name} of {self._files.repo}: {trouble.reason}", hint=_GO_ON)

    def _not_here(self, shards: tuple[Shard, ...]) -> list[Shard]:
        """Those without a file, or with one that is not what the Hub says, which is removed."""
        found = {shard.name: self._place.find(shard) for shard in shards}
        hashed = [
            (shard, path, shard.sha256)
            for shard in shards
            if (path := found[shard.name]) is not None and shard.sha256 is not None
        ]
        right = verify(
            [(path, sha256) for _, path, sha256 in hashed],
            self._store,
            self._on_progress,
            anew=self._options.verify,
        )
        wrong = [shard for (shard, _, _), is_right in zip(hashed, right, strict=True) if not is_right]
        for shard in wrong:
            self._place.remove(shard)
        return [shard for shard in shards if found[shard.name] is None or shard in wrong]

    def _link_from_elsewhere(self, missing: list[Shard]) -> list[Shard]:
        """Link what is on this machine and has the right hash; what is left."""
        if not missing:
            return []
        folders = (*self._options.look_in, *other_stores(self._endpoint.cache_dir))
        found = candidates(missing, folders)
        pairs = [
            (shard, path, shard.sha256)
            for shard in missing
            for path in found.get(shard.name, ())
            if shard.sha256 is not None
        ]
        right = verify([(path, sha256) for _, path, sha256 in pairs], self._store, self._on_progress)
        linked: set[str] = set()
        for (shard, path, sha256), is_right in zip(pairs, right, strict=True):
            if is_right and shard.name not in linked:
                self._place.link(shard, path)
                self._store.keep_verified(self._place.path(shard).resolve(), sha256)
                linked.add(shard.name)
        return [shard for shard in missing if shard.name not in linked]

    def _wanted(self, shard: Shard) -> Wanted:
        endpoint, files = self._endpoint, self._files
        headers = (("Authorization", f"Bearer {endpoint.token}"),) if endpoint.token else ()
        return Wanted(
            name=shard.name,
            size_bytes=shard.size_bytes,
            sha256=shard.sha256,
            url=f"{endpoint.url}/{files.repo}/resolve/{files.commit}/{quote(shard.name)}",
            headers=headers,
            part=self._place.part(shard),
            lock=self._place.lock(shard),
            identity=shard.sha256 or f"{files.repo}@{files.commit}/{shard.name}",
        )


def _refuse_unsafe(repo: str, name: str) -> None:
    wrong = safe_file_name(name)
    if wrong is not None:
        raise NotFound(f"the file name {name!r} in {repo} {wrong}", hint="name another file of the repo")
