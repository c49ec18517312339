"""A plain folder: files under their names in the repo, as `hf download --local-dir` lays them out.

Such a folder is often taken away (a USB disk, another machine), so nothing in it points elsewhere: hard links on the
same file system, copies on another. The store remembers for what a file was put here; any other file is the
user's, and is not replaced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.errors import HashMismatch, TryAgain, UsageError
from launcher.hub.hashing import verify
from launcher.hub.places import Place, hard_link, has_size, part_beside
from launcher.hub.room import disk_error, refuse_full_disk
from launcher.hub.store import HubStore
from launcher.hub.transfer.part import Part, remove_part
from launcher.locks import exclusive_if_free
from launcher.model import ModelFile, Shard
from launcher.progress import OnProgress, Step
from launcher.units import MIB, format_bytes

_UNIT = 8 * MIB  # a transfer's: what it began, a copy goes on with
_SYNC_EVERY = 16 * _UNIT  # a slow disk is waited for as it goes, not all at the end


class PlainFolder:
    """`owner` is what the files are of: a repo, or where else the model comes from."""

    instead = "name another folder with --dir"

    def __init__(self, folder: Path, owner: str, store: HubStore) -> None:
        self.root, self._owner, self._store = folder, owner, store

    def claim(self, shards: Sequence[Shard], missing: Sequence[Shard]) -> None:
        """Remember that these are kept here, `missing` ones soon. Raises UsageError where that would replace a file of
        something else."""
        owners = self._store.owners()
        for shard in missing:
            path, owner = self.path(shard), owners.get(self._key(shard))
            foreign = path.is_file() or (owner is not None and self.part(shard).exists())
            if foreign and owner != self._owner:
                here = path if path.is_file() else self.part(shard)
                whose = f"of {owner}" if owner else "that was not put there by launcher"
                raise UsageError(
                    f"{here} is a file {whose}, {format_bytes(here.stat().st_size)}; {shard.name} of"
                    f" {self._owner}, {format_bytes(shard.size_bytes)}, would replace it",
                    hint=f"{self.instead}, or move that file away",
                )
        self._store.keep_owner(self._owner, [self._key(shard) for shard in shards])

    def is_claimed(self, shard: Shard) -> bool:
        """Whether what is here, whole or not, was put here for the same owner."""
        return self._store.owners().get(self._key(shard)) == self._owner

    def path(self, shard: Shard) -> Path:
        return self.root / shard.name

    def find(self, shard: Shard) -> Path | None:
        path = self.path(shard)
        return path if has_size(path, shard) else None

    def part(self, shard: Shard) -> Path:
        return part_beside(self.path(shard))

    def lock(self, shard: Shard) -> Path:
        return lock_in(self.root, shard.name)

    def put(self, shard: Shard, part: Part) -> None:
        part.become(self.path(shard))

    def link(self, shard: Shard, source: Path) -> bool:
        if not hard_link(source, self.path(shard)):
            return False
        remove_part(self.part(shard))
        return True

    def remove(self, shard: Shard) -> None:
        self.path(shard).unlink(missing_ok=True)

    def settle(self) -> None:
        pass

    def _key(self, shard: Shard) -> str:
        return owner_key(self.path(shard))


def owner_key(path: Path) -> str:
    """What the store calls this file: the same by whatever links its folder is reached."""
    return str(path.parent.resolve() / path.name)


def lock_in(folder: Path, name: str) -> Path:
    """The lock of whoever fills the file of this name in a plain folder."""
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    return folder / ".locks" / f"{key}.lock"


def copy_all(place: Place, sources: Sequence[tuple[Shard, Path]], on_progress: OnProgress) -> list[Shard]:
    """Copy files of this machine to where they cannot be linked, as phase `copy` in bytes; those left whose lock somebody
    else holds. Raises as `copy_file`."""
    total, before, held = sum(shard.size_bytes for shard, _ in sources), 0, []
    for shard, source in sources:
        with exclusive_if_free(place.lock(shard)) as free:
            if free:
                copy_file(place, shard, source, on_progress, before=before, total=total)
            else:
                held.append(shard)
        before += shard.size_bytes
    return held


def copy_file(
    place: Place,
    shard: Shard,
    source: Path,
    on_progress: OnProgress,
    *,
    before: int = 0,
    total: int | None = None,
) -> None:
    """With the shard's lock held; a copy that was broken off is gone on with. `before` of `total` bytes were copied before
    it. Raises HashMismatch for a copy that is not what it should be, OSError."""

    def report(done: int) -> None:
        whole = shard.size_bytes if total is None else total
        on_progress(Step(phase="copy", done=before + done, total=whole, unit="bytes"))

    part = Part(
        place.part(shard),
        size_bytes=shard.size_bytes,
        unit_bytes=_UNIT,
        identity=shard.sha256 or f"{source} {source.stat().st_mtime_ns}",
    )
    try:
        digest = _fill(part, shard, source, report)
    finally:
        part.close()
    if shard.sha256 is not None and digest != shard.sha256:
        remove_part(part.path)
        raise HashMismatch(
            f"the copy of {source} has the sha256 {digest[:12]}…, not {shard.sha256[:12]}…; it was removed",
            hint="run it again",
        )
    place.put(shard, part)


def _fill(part: Part, shard: Shard, source: Path, report: Callable[[int], None]) -> str:
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


def put_into(
    model: ModelFile, paths: tuple[Path, ...], folder: Path, store: HubStore, on_progress: OnProgress
) -> tuple[Path, ...]:
    """The files of a model that is on this machine, in `folder` too: linked or copied.

    Raises UsageError for a file of something else there, and what a disk that refuses means.
    """
    place = PlainFolder(folder, model.source, store)
    files = list(zip(model.shards, paths, strict=True))
    try:
        missing = [
            (shard, path) for shard, path in files if not _is_here(place, shard, path, store, on_progress)
        ]
        put = [shard for shard, path in files if place.path(shard).resolve() != path.resolve()]
        place.claim(
            put, [shard for shard, _ in missing]
        )  # where the model is in `folder` itself it stays the user's
        copies = [(shard, path) for shard, path in missing if not place.link(shard, path)]
        room = [(shard, place.part(shard)) for shard, _ in copies]
        refuse_full_disk(folder, room, what=model.model_id, instead=place.instead)
        held = copy_all(place, copies, on_progress)
    except OSError as error:
        raise disk_error(error, folder, instead=place.instead) from error
    if held:
        raise TryAgain(
            f"{place.path(held[0])} is being written by another program",
            hint="end that or wait for it, then run it again",
        )
    return tuple(place.path(shard) for shard in model.shards)


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
        return verify([(found, shard.sha256)], store, on_progress)[0] == shard.sha256
    return place.is_claimed(shard) and found.stat().st_mtime_ns >= source.stat().st_mtime_ns
