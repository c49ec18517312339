"""A plain folder: files under their names in the repo, as `hf download --local-dir` lays them out.

Such a folder is often taken away (a USB disk, another machine), so nothing in it points elsewhere: hard links on the
same file system, copies on another. The store remembers for what each file was put here, and which file that was; a
partial file says it in its journal. Any other file is the user's, and is not replaced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from launcher.errors import HashMismatch, TryAgain, UsageError
from launcher.gguf.model import ModelFile, Shard
from launcher.models.files.disk_space import (
    RUN_AGAIN,
    MissingFile,
    disk_error,
    refuse_full_disk,
    same_file_system,
)
from launcher.models.files.hashing import hash_files
from launcher.models.files.place import Place, hard_link, has_size, partial_path_of
from launcher.models.store import HubStore, file_key
from launcher.models.transfer.journal import recorded_identity
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.progress import OnProgress, Step
from launcher.system.locks import exclusive_if_free
from launcher.units import MIB, format_bytes

_UNIT = 8 * MIB  # a transfer's: what it began, a copy goes on with
_SYNC_EVERY = 16 * _UNIT  # a slow disk is waited for as it goes, not all at the end


class PlainFolder:
    """`owner` is what the files are of: a repo, or where else the model comes from."""

    instead = "name another folder with --dir"

    def __init__(self, folder: Path, owner: str, store: HubStore) -> None:
        self.root, self._owner, self._store = folder, owner, store

    def check(self, missing: Iterable[Shard]) -> None:
        for shard in missing:
            self._refuse_foreign_file(shard)
            part = self.part(shard)
            if (owner := _begun_for(part)) != self._owner and os.path.lexists(part):
                raise self._foreign(part, owner, shard)

    def own(self, shard: Shard) -> None:
        if not self.is_own(shard):
            self._store.keep_owner(self.path(shard), self._owner)

    def is_own(self, shard: Shard) -> bool:
        """Whether the file here is the one that was put here for the same owner."""
        return self._store.owners().of(self.path(shard)) == self._owner

    def identity(self, content: str) -> str:
        return f"{self._owner}\n{content}"

    def path(self, shard: Shard) -> Path:
        return self.root / shard.name

    def find(self, shard: Shard) -> Path | None:
        path = self.path(shard)
        return path if has_size(path, shard) else None

    def part(self, shard: Shard) -> Path:
        return partial_path_of(self.path(shard))

    def lock(self, shard: Shard) -> Path:
        return lock_path_of(self.path(shard))

    def put(self, shard: Shard, part: PartialFile) -> None:
        self._refuse_foreign_file(shard)
        part.become(self.path(shard))
        self.own(shard)

    def link(self, shard: Shard, source: Path) -> bool:
        self.check([shard])
        if not hard_link(source, self.path(shard)):
            return False
        remove_partial_file(self.part(shard))
        self.own(shard)
        return True

    def remove(self, shard: Shard) -> None:
        self.check([shard])
        self.path(shard).unlink(missing_ok=True)

    def settle(self) -> None:
        pass

    def _refuse_foreign_file(self, shard: Shard) -> None:
        path, owners = self.path(shard), self._store.owners()
        if (owner := owners.of(path)) != self._owner and os.path.lexists(path):
            raise self._foreign(path, owner, shard, was_put_there=file_key(path) in owners.records)

    def _foreign(
        self, here: Path, owner: str | None, shard: Shard, *, was_put_there: bool = False
    ) -> UsageError:
        whose = f"of {owner}" if owner else "that was not put there by launcher"
        if owner is None and was_put_there:
            whose = "that was changed or exchanged since launcher put one there"
        kind = "folder" if here.is_dir() else "file"
        return UsageError(
            f"{here} is a {kind} {whose}, {format_bytes(here.lstat().st_size)}; {shard.name} of {self._owner},"
            f" {format_bytes(shard.size_bytes)}, would replace it",
            hint=f"{self.instead}, or move that {kind} away",
        )


def _begun_for(part: Path) -> str | None:
    """Whose this partial file is, by its journal; None for one that is not launcher's."""
    owner, separator, _ = (recorded_identity(part) or "").partition("\n")
    return owner if separator else None


def lock_path_of(path: Path) -> Path:
    """The lock of whoever fills or removes the file at `path` in a plain folder, whichever folder above it was named."""
    key = hashlib.sha256(path.name.encode()).hexdigest()[:16]
    return path.parent / ".locks" / f"{key}.lock"


def copy_all(
    place: Place, sources: Sequence[tuple[Shard, Path]], on_progress: OnProgress, again: str
) -> list[Shard]:
    """Copy files of this machine to where they cannot be linked, as phase `copy` in bytes; those left whose lock somebody
    else holds. Raises as `copy_file`."""
    total, before, held = sum(shard.size_bytes for shard, _ in sources), 0, []
    for shard, source in sources:
        with exclusive_if_free(place.lock(shard)) as free:
            if free:
                copy_file(place, shard, source, on_progress, again, before=before, total=total)
            else:
                held.append(shard)
        before += shard.size_bytes
    return held


def copy_file(
    place: Place,
    shard: Shard,
    source: Path,
    on_progress: OnProgress,
    again: str,
    *,
    before: int = 0,
    total: int | None = None,
) -> None:
    """With the shard's lock held; a copy that was broken off is gone on with. `before` of `total` bytes were copied before
    it. `again` is the command that tries once more. Raises HashMismatch for a copy that is not what it should be, OSError,
    as `Place.check`."""

    def report(done: int) -> None:
        whole = shard.size_bytes if total is None else total
        on_progress(Step(phase="copy", done=before + done, total=whole, unit="bytes"))

    place.check([shard])
    part = PartialFile(
        place.part(shard),
        size_bytes=shard.size_bytes,
        unit_bytes=_UNIT,
        identity=place.identity(shard.sha256 or f"{source} {source.stat().st_mtime_ns}"),
    )
    try:
        digest = _fill(part, shard, source, report)
    finally:
        part.close()
    if shard.sha256 is not None and digest != shard.sha256:
        remove_partial_file(part.path)
        raise HashMismatch(
            f"the copy of {source} has the sha256 {digest[:12]}…, not {shard.sha256[:12]}…; it was removed",
            hint=again,
        )
    place.put(shard, part)


def _fill(part: PartialFile, shard: Shard, source: Path, report: Callable[[int], None]) -> str:
    """The sha256 of what is in the partial file at the end; units that are there already are read from it."""
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as file:
        for begin in range(0, shard.size_bytes, _UNIT):
            n_bytes = min(_UNIT, shard.size_bytes - begin)
            if begin // _UNIT in part.whole:
                with part.mapped(begin, n_bytes) as view:
                    digest.update(view)
            else:
                data = os.pread(file.fileno(), n_bytes, begin)
                if len(data) < n_bytes:
                    raise TryAgain(f"{source} became shorter while it was copied", hint=f"ls -l {source}")
                part.write(memoryview(data), begin)
                part.mark([begin // _UNIT])
                digest.update(data)
            if (begin + n_bytes) % _SYNC_EVERY == 0:
                part.sync()
            report(begin + n_bytes)
    part.sync()
    return digest.hexdigest()


def put_into_folder(
    model: ModelFile,
    paths: tuple[Path, ...],
    folder: Path,
    store: HubStore,
    on_progress: OnProgress,
    again: str = "",
    later: Iterable[MissingFile] = (),
) -> tuple[Path, ...]:
    """The files of a model that is on this machine, in `folder` too: linked or copied. `again` is the command that
    goes on, where it is known; `later` is brought after these, and the disk is asked for it too.

    Raises UsageError for a file of something else there, and what a disk that refuses means.
    """
    place = PlainFolder(folder, model.source, store)
    files = list(zip(model.shards, paths, strict=True))
    room: list[MissingFile] = []
    try:
        missing = [
            (shard, path) for shard, path in files if not _is_here(place, shard, path, store, on_progress)
        ]
        place.check(shard for shard, _ in missing)
        copies = [(shard, path) for shard, path in missing if not _link_if_free(place, shard, path)]
        room = [(shard, place.part(shard)) for shard, _ in copies]
        what = model.model_id
        refuse_full_disk(folder, room, what=what, instead=place.instead, again=again, later=later)
        held = copy_all(place, copies, on_progress, again or RUN_AGAIN)
    except OSError as error:
        left = [one for one in room if place.find(one[0]) is None]
        raise disk_error(
            error, folder, instead=place.instead, missing=left, again=again or RUN_AGAIN
        ) from error
    if held:
        raise TryAgain(
            f"{place.path(held[0])} is being written by another program",
            hint=f"end that or wait for it, then: {again or RUN_AGAIN}",
        )
    return tuple(place.path(shard) for shard in model.shards)


def to_come(model: ModelFile, paths: Sequence[Path], folder: Path) -> list[MissingFile]:
    """What `put_into` would have to copy, because it cannot be linked. Only looks."""
    return [
        (shard, partial_path_of(folder / shard.name))
        for shard, path in zip(model.shards, paths, strict=True)
        if not (has_size(folder / shard.name, shard) or same_file_system(path, folder))
    ]


def _link_if_free(place: PlainFolder, shard: Shard, source: Path) -> bool:
    with exclusive_if_free(place.lock(shard)) as free:
        return free and place.link(shard, source)


def _is_here(
    place: PlainFolder, shard: Shard, source: Path, store: HubStore, on_progress: OnProgress
) -> bool:
    """The same file, or one with the right hash; without a hash, an earlier copy of a file that did not change since."""
    found = place.find(shard)
    if found is None:
        return False
    if found.samefile(source):
        return True
    if shard.sha256 is not None:
        is_right = hash_files([(found, shard.sha256)], store, on_progress)[0] == shard.sha256
        if is_right:
            place.own(shard)
        return is_right
    return place.is_own(shard) and found.stat().st_mtime_ns >= source.stat().st_mtime_ns
