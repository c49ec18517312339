"""Where files of a model are put: the seam, and links instead of copies."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from launcher.gguf.model import Shard
from launcher.models.transfer.partial_file import PartialFile

NO_LINK_ERRORS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
)  # a file system without them (symlink(2))


class Place(Protocol):
    """Raises OSError as the disk does. `root` names the file system, `instead` another one to use."""

    @property
    def root(self) -> Path: ...

    @property
    def instead(self) -> str: ...

    def check(self, missing: Iterable[Shard]) -> None:
        """Raises UsageError where bringing these would replace a file of something else, or go on with its partial
        file. Asked for all before the first byte, and of each again with its lock held."""

    def own(self, shard: Shard) -> None:
        """The file that is here has the shard's hash: it counts as put here."""

    def identity(self, content: str) -> str:
        """What a partial file of this content is begun as here."""

    def path(self, shard: Shard) -> Path:
        """Where the file is, or will be."""

    def find(self, shard: Shard) -> Path | None:
        """`path`, where a file of the listed size is; what is known to be no such file is removed."""

    def part(self, shard: Shard) -> Path: ...

    def lock(self, shard: Shard) -> Path: ...

    def put(self, shard: Shard, part: PartialFile) -> None:
        """Take a whole partial file in. Raises as `check`, and then it stays."""

    def link(self, shard: Shard, source: Path) -> bool:
        """Take a file of this machine in without copying it; False where it has to be copied. The shard's partial file
        goes with the link: its lock is held. Raises as `check`."""

    def remove(self, shard: Shard) -> None:
        """Remove the file; of one that was linked, the link alone. Raises as `check`."""

    def settle(self) -> None:
        """All files are here."""


def link_file(source: Path, target: Path) -> None:
    """`target` is the same file as `source`: a hard link, across file systems a symbolic one. Replaces what is there."""
    if hard_link(source, target):
        return
    new = temporary_path_beside(target)
    try:
        new.symlink_to(source.resolve())
    except OSError:  # a file system that knows neither
        shutil.copyfile(source, new)
    new.replace(target)


def hard_link(source: Path, target: Path) -> bool:
    """Whether `target` is one more name of the file `source` now, in place of what was there. The bytes stay when the
    other name goes. False where the file system has no such links from there."""
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
    """The name of a file that is to take the place of `target` by one rename: another pull may make the same one."""
    new = target.with_name(f".new-{os.getpid()}-{target.name}")
    new.unlink(missing_ok=True)
    return new


def partial_path_of(path: Path) -> Path:
    """The partial file of what is to be at `path`."""
    return path.with_name(path.name + ".part")


def has_size(path: Path, shard: Shard) -> bool:
    try:
        return path.stat().st_size == shard.size_bytes
    except OSError:
        return False
