"""The interface of a place that model files go to, and links."""

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
    """The Hub's cache or a plain folder."""

    # methods raise OSError as the disk does; those that change files raise UsageError as `refuse_foreign`

    @property
    def root(self) -> Path: ...  # a folder on the place's file system

    @property
    def alternative(self) -> str: ...  # for hints: how to choose another place

    def refuse_foreign(self, missing: Iterable[Shard]) -> None:
        """Raise UsageError if a file or partial file of something else has a missing one's name."""
        # called for all files before the first byte, and for each again with its lock held

    # launcher has put the file here, or verified it
    def record_owner(self, shard: Shard) -> None: ...

    # for the journal of a partial file
    def identity(self, content: str) -> str: ...

    def path(self, shard: Shard) -> Path: ...

    def find(self, shard: Shard) -> Path | None:
        """Return `path` if a file of the listed size is there."""
        # may remove a file known to be cut off

    def partial_path(self, shard: Shard) -> Path: ...

    def lock_path(self, shard: Shard) -> Path: ...

    def accept(self, shard: Shard, partial_file: PartialFile) -> None:
        """Give a whole partial file its name. If this raises, the partial file stays."""

    def link(self, shard: Shard, source: Path) -> bool:
        """Link a local file here; False if it can only be copied."""
        # removes the shard's partial file, so the caller holds its lock

    def remove(self, shard: Shard) -> None: ...  # of a linked file, only the link

    def finish(self) -> None: ...  # called once all files are here


def link_file(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, replacing what is there."""
    # a hard link; across file systems a symbolic one; a copy where neither works
    if hard_link(source, target):
        return
    new = temporary_path_beside(target)
    try:
        new.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, new)
    new.replace(target)


def hard_link(source: Path, target: Path) -> bool:
    """Make `target` another name of `source`, replacing what is there; False if that is impossible."""
    # the bytes stay when the other name is removed
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


def linked_blob(link: Path, blobs: Path) -> Path | None:
    """Return the file in `blobs` that a snapshot's link names; None if it points elsewhere."""
    # one step only: a blob may itself be a link to another program's file
    target = Path(os.path.normpath(link.parent / link.readlink()))
    is_inside = not blobs.is_symlink() and target.parent.resolve() == blobs.resolve()
    return blobs / target.name if is_inside else None


def temporary_path_beside(target: Path) -> Path:
    """Return a free path from which one rename can replace `target`."""
    # with the process's id: another pull may be replacing the same file
    new = target.with_name(f".new-{os.getpid()}-{target.name}")
    new.unlink(missing_ok=True)
    return new


def partial_path_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def has_size(path: Path, shard: Shard) -> bool:
    try:
        return path.stat().st_size == shard.size_bytes
    except OSError:
        return False
