"""The interface of a place that model files go to, and links instead of copies."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from launcher.gguf.model import Shard
from launcher.models.transfer.partial_file import PartialFile

NO_LINK_ERRORS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""What symlink(2) answers on a file system without links."""


class Place(Protocol):
    """A place that files of one model go to: the Hub's cache or a plain folder.

    Methods raise OSError as the disk does; those that change files raise UsageError as `refuse_foreign`.
    """

    @property
    def root(self) -> Path: ...  # a folder on the place's file system

    @property
    def alternative(self) -> str:
        """Words for a hint: how to choose another place."""

    def refuse_foreign(self, missing: Iterable[Shard]) -> None:
        """Raise UsageError if a file or partial file of something else has the name of a missing one.

        Called for all files before the first byte, and for each again with its lock held.
        """

    def record_owner(self, shard: Shard) -> None:
        """Record that the file here, which has the shard's hash, counts as put here by launcher."""

    def identity(self, content: str) -> str:
        """Return what the journal of a partial file of this content says here."""

    def path(self, shard: Shard) -> Path: ...

    def find(self, shard: Shard) -> Path | None:
        """Return `path` if a file of the listed size is there. May remove a file known to be cut off."""

    def partial_path(self, shard: Shard) -> Path: ...

    def lock_path(self, shard: Shard) -> Path: ...

    def accept(self, shard: Shard, partial_file: PartialFile) -> None:
        """Give a whole partial file its name. If this raises, the partial file stays."""

    def link(self, shard: Shard, source: Path) -> bool:
        """Link a file of this machine here, and remove the shard's partial file (the caller holds its lock).

        Returns False if it can only be copied.
        """

    def remove(self, shard: Shard) -> None: ...  # of a linked file, only the link

    def finish(self) -> None: ...  # called once all files are here


def link_file(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, replacing what is there.

    A hard link, across file systems a symbolic one, and a copy where neither works.
    """
    if hard_link(source, target):
        return
    new = temporary_path_beside(target)
    try:
        new.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, new)
    new.replace(target)


def hard_link(source: Path, target: Path) -> bool:
    """Make `target` another name of the file `source`, replacing what is there.

    The bytes stay when the other name is removed. Returns False if the file system cannot link them.
    """
    source = source.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source) and not target.is_symlink():
        return True
    new = temporary_path_beside(target)
    try:
        os.link(source, new)
    except OSError:
        return False
    new.replace(target)
    return True


def temporary_path_beside(target: Path) -> Path:
    """Return a free path from which one rename can replace `target`."""
    # with the process's id: another pull may be replacing the same file
    new = target.with_name(f".new-{os.getpid()}-{target.name}")
    new.unlink(missing_ok=True)
    return new


def partial_path_of(path: Path) -> Path:
    """Return where the partial file of `path` is."""
    return path.with_name(path.name + ".part")


def has_size(path: Path, shard: Shard) -> bool:
    try:
        return path.stat().st_size == shard.size_bytes
    except OSError:
        return False
