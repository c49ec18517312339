"""A plain folder, laid out as by `hf download --local-dir`."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from launcher.errors import UsageError
from launcher.gguf.model import Shard
from launcher.models.files.place import hard_link, has_size, partial_path_of
from launcher.models.store import HubStore, file_key
from launcher.models.transfer.journal import journal_path, recorded_identity
from launcher.models.transfer.partial_file import PartialFile, remove_partial_file
from launcher.system.owned_files import NotOurs, check_begun, check_folders, check_unchangeable
from launcher.units import format_bytes


class PlainFolder:
    """A `Place` for the files of `owner`: a repo, or wherever else the model comes from."""

    # Such a folder is often taken away (a USB disk, another machine), so nothing in it points elsewhere: hard
    # links on the same file system, copies on another. The store remembers which file was put here for which
    # model, and a partial file says so in its journal. Any other file is the user's, and is not replaced.

    alternative = "name another folder with --dir"

    def __init__(self, folder: Path, owner: str, store: HubStore) -> None:
        self.root, self._owner, self._store = folder, owner, store

    def refuse_foreign(self, missing: Iterable[Shard]) -> None:
        for shard in missing:
            self._refuse_planted(shard)
            self._refuse_foreign_file(shard)
            partial_path = self.partial_path(shard)
            owner = _owner_in_journal(partial_path)
            if owner != self._owner and os.path.lexists(partial_path):
                raise self._foreign(partial_path, owner, shard)

    def record_owner(self, shard: Shard) -> None:
        if not self.is_own(shard):
            self._store.keep_owner(self.path(shard), self._owner)

    def is_own(self, shard: Shard) -> bool:
        """Return True if the file here was put here for the same owner."""
        return self._store.owners().of(self.path(shard)) == self._owner

    def identity(self, content: str) -> str:
        return f"{self._owner}\n{content}"

    def path(self, shard: Shard) -> Path:
        return self.root / shard.name

    def find(self, shard: Shard) -> Path | None:
        path = self.path(shard)
        return path if has_size(path, shard) and _changeable(path) is None else None

    def partial_path(self, shard: Shard) -> Path:
        return partial_path_of(self.path(shard))

    def lock_path(self, shard: Shard) -> Path:
        return lock_path_of(self.path(shard))

    def accept(self, shard: Shard, partial_file: PartialFile) -> None:
        self._refuse_foreign_file(shard)
        partial_file.become(self.path(shard))
        self.record_owner(shard)

    def link(self, shard: Shard, source: Path) -> bool:
        self.refuse_foreign([shard])
        # what another user can change through its first name is copied
        if _changeable(source.resolve()) is not None or not hard_link(source, self.path(shard)):
            return False
        remove_partial_file(self.partial_path(shard))
        self.record_owner(shard)
        return True

    def remove(self, shard: Shard) -> None:
        self.refuse_foreign([shard])
        self.path(shard).unlink(missing_ok=True)

    def finish(self) -> None:
        pass  # the owners are recorded file by file

    def _refuse_planted(self, shard: Shard) -> None:
        lock, partial_path = self.lock_path(shard), self.partial_path(shard)
        try:
            check_folders(self.root, lock.parent)
            for path in (partial_path, journal_path(partial_path), lock):
                check_begun(path)
        except NotOurs as error:
            raise UsageError(
                f"{error.filename} cannot be used: {error.strerror}",
                hint=f"{self.alternative}, or move it away",
            ) from error

    def _refuse_foreign_file(self, shard: Shard) -> None:
        path, owners = self.path(shard), self._store.owners()
        if (owner := owners.of(path)) != self._owner and os.path.lexists(path):
            error = _changeable(path) if has_size(path, shard) else None
            if error is not None:  # it may be the right file, and not stay it
                raise UsageError(
                    f"{path} cannot be relied on: {error.strerror}",
                    hint=f"{self.alternative}, and --from {shlex.quote(str(self.root))} to have it copied",
                )
            raise self._foreign(path, owner, shard, was_put_there=file_key(path) in owners.records)

    def _foreign(
        self, path: Path, owner: str | None, shard: Shard, *, was_put_there: bool = False
    ) -> UsageError:
        whose = f"of {owner}" if owner else "that was not put there by launcher"
        if owner is None and was_put_there:
            whose = "that was changed or exchanged since launcher put one there"
        kind = "folder" if path.is_dir() else "file"
        return UsageError(
            f"{path} is a {kind} {whose}, {format_bytes(path.lstat().st_size)};"
            f" {shard.name} of {self._owner}, {format_bytes(shard.size_bytes)}, would replace it",
            hint=f"{self.alternative}, or move that {kind} away",
        )


def lock_path_of(path: Path) -> Path:
    """Return the lock of whoever fills or removes the file at `path`."""
    # beside the file: the same lock whichever folder above it was named
    key = hashlib.sha256(path.name.encode()).hexdigest()[:16]
    return path.parent / ".locks" / f"{key}.lock"


def _changeable(path: Path) -> NotOurs | None:
    try:
        check_unchangeable(path)
    except NotOurs as error:
        return error
    except FileNotFoundError:
        return None
    return None


def _owner_in_journal(partial_path: Path) -> str | None:
    # None if launcher did not begin this partial file
    owner, separator, _ = (recorded_identity(partial_path) or "").partition("\n")
    return owner if separator else None
