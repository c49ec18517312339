"""Link or copy model files of this machine to a place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import HashMismatch, TryAgain
from launcher.gguf.model import ModelFile, Shard
from launcher.models.files.disk_space import (
    RUN_AGAIN,
    Destination,
    MissingFile,
    disk_error,
    refuse_full_disk,
    same_file_system,
)
from launcher.models.files.hashing import hash_files
from launcher.models.files.place import Place, has_size, partial_path_of
from launcher.models.files.plain_folder import PlainFolder
from launcher.models.located import LocalFiles, Located, PullOptions
from launcher.models.store import HubStore
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.progress import OnProgress, Step, silent
from launcher.system.locks import exclusive_if_free
from launcher.system.small_files import open_regular
from launcher.units import MIB

_UNIT = 8 * MIB  # a transfer's unit, so that a copy can continue what a transfer began
_SYNC_EVERY = 16 * _UNIT  # the wait for a slow disk is spread over the copy, not left to its end


def put_into_folder(
    located: Located, *, store: HubStore, options: PullOptions, on_progress: OnProgress = silent
) -> tuple[Path, ...]:
    """Link or copy a local model's files into `options.folder`; return their paths there.

    Raises UsageError if another file is in the way, TryAgain for a full disk or a file being written.
    """
    files, folder = located.files, options.folder
    if not isinstance(files, LocalFiles) or folder is None:
        raise TypeError("put_into_folder takes files of this machine and a folder")
    model = located.model
    place = PlainFolder(folder, model.source, store)
    destination = Destination(folder=folder, alternative=place.alternative, retry=options.again)
    to_copy: list[MissingFile] = []
    try:
        missing = [
            (shard, path)
            for shard, path in zip(model.shards, files.paths, strict=True)
            if not _is_here(place, shard, path, store, on_progress)
        ]
        place.refuse_foreign(shard for shard, _ in missing)
        copies = [(shard, path) for shard, path in missing if not _link_if_free(place, shard, path)]
        to_copy = [(shard, place.partial_path(shard)) for shard, _ in copies]
        refuse_full_disk(destination, to_copy, what=model.model_id, later=options.later)
        copier = Copier(place=place, retry=options.again or RUN_AGAIN, on_progress=on_progress)
        locked = copier.copy_all(copies)
    except OSError as error:
        left = [(shard, partial_path) for shard, partial_path in to_copy if place.find(shard) is None]
        raise disk_error(error, destination, missing=left) from error
    if locked:
        raise TryAgain(
            f"{place.path(locked[0])} is being written by another program",
            hint=f"end that or wait for it, then: {options.again or RUN_AGAIN}",
        )
    return tuple(place.path(shard) for shard in model.shards)


def missing_copies(model: ModelFile, paths: Sequence[Path], folder: Path) -> list[MissingFile]:
    """List what `put_into_folder` would copy."""
    return [
        (shard, partial_path_of(folder / shard.name))
        for shard, path in zip(model.shards, paths, strict=True)
        if not (has_size(folder / shard.name, shard) or same_file_system(path, folder))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copier:
    """Copy files of this machine to a place where they cannot be linked.

    Both methods raise HashMismatch for a wrong sha256, TryAgain, OSError, and as `Place.refuse_foreign`.
    """

    place: Place
    retry: str  # the command for hints
    on_progress: OnProgress

    def copy_all(self, sources: Sequence[tuple[Shard, Path]]) -> list[Shard]:
        """Copy the files; return those whose lock another program holds."""
        total, before = sum(shard.size_bytes for shard, _ in sources), 0
        locked: list[Shard] = []
        for shard, source in sources:
            with exclusive_if_free(self.place.lock_path(shard)) as free:
                if free:
                    self.copy(shard, source, before=before, total=total)
                else:
                    locked.append(shard)
            before += shard.size_bytes
        return locked

    def copy(self, shard: Shard, source: Path, *, before: int = 0, total: int | None = None) -> None:
        """Copy one file, continuing an earlier copy; the caller holds the shard's lock."""
        # for progress: `before` of `total` bytes were copied before this file
        n_total = shard.size_bytes if total is None else total

        def report(done: int) -> None:
            self.on_progress(Step(phase="copy", done=before + done, total=n_total, unit="bytes"))

        self.place.refuse_foreign([shard])
        partial_file = PartialFile(
            self.place.partial_path(shard),
            size_bytes=shard.size_bytes,
            unit_bytes=_UNIT,
            identity=self.place.identity(shard.sha256 or f"{source} {source.stat().st_mtime_ns}"),
        )
        try:
            sha256 = _fill(partial_file, shard, source, report)
        finally:
            partial_file.close()
        if shard.sha256 is not None and sha256 != shard.sha256:
            remove_partial_file(partial_file.path)
            raise HashMismatch(
                f"the copy of {source} has the sha256 {sha256[:12]}…,"
                f" not {shard.sha256[:12]}…; it was removed",
                hint=self.retry,
            )
        self.place.accept(shard, partial_file)


def _fill(partial_file: PartialFile, shard: Shard, source: Path, report: Callable[[int], None]) -> str:
    """Copy the missing units; return the sha256 of the whole."""
    digest = hashlib.sha256()
    with open_regular(source) as file:
        for begin in range(0, shard.size_bytes, _UNIT):
            n_bytes = min(_UNIT, shard.size_bytes - begin)
            if begin // _UNIT in partial_file.whole:
                # hashed as it is here, not as the source is: the two may differ
                with partial_file.mapped(begin, n_bytes) as view:
                    digest.update(view)
            else:
                data = os.pread(file.fileno(), n_bytes, begin)
                if len(data) < n_bytes:
                    raise TryAgain(f"{source} became shorter while it was copied", hint=f"ls -l {source}")
                partial_file.write(memoryview(data), begin)
                partial_file.mark([begin // _UNIT])
                digest.update(data)
            if (begin + n_bytes) % _SYNC_EVERY == 0:
                partial_file.sync()
            report(begin + n_bytes)
    partial_file.sync()
    return digest.hexdigest()


def _link_if_free(place: PlainFolder, shard: Shard, source: Path) -> bool:
    with exclusive_if_free(place.lock_path(shard)) as free:
        return free and place.link(shard, source)


def _is_here(
    place: PlainFolder, shard: Shard, source: Path, store: HubStore, on_progress: OnProgress
) -> bool:
    # this very file, or one with the right content
    path = place.find(shard)
    if path is None:
        return False
    if path.samefile(source):
        return True
    if shard.sha256 is not None:
        is_right = hash_files([(path, shard.sha256)], store, on_progress)[0] == shard.sha256
        if is_right:
            place.record_owner(shard)
        return is_right
    # without a hash: an earlier copy of a source that has not changed since
    return place.is_own(shard) and path.stat().st_mtime_ns >= source.stat().st_mtime_ns
