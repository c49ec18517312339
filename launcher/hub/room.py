"""Room on a disk: asked before the first byte, and what a disk that refuses means to the user."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path

from launcher.errors import LauncherError, TryAgain, UsageError
from launcher.model import Shard
from launcher.units import format_bytes

_SPARE = 50  # one 50th on top (2 %): file system metadata, journals, refs, logs
_BLOCK = 512  # st_blocks counts in these, whatever the file system's own block size (POSIX stat)


def refuse_full_disk(folder: Path, missing: Iterable[tuple[Shard, Path]], *, what: str, instead: str) -> None:
    """`missing` are files to come, each with its partial file, whose blocks are taken already. `what` names them,
    `instead` says where else they could go. Raises TryAgain with how much to free."""
    lacks = sum(max(0, shard.size_bytes - _taken(part)) for shard, part in missing)
    needed = lacks * (_SPARE + 1) // _SPARE
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise TryAgain(
            f"{what} needs {format_bytes(needed)} on the file system of {folder}, which has {format_bytes(free)} free",
            hint=f"free {format_bytes(needed - free)} there, or {instead}",
        )


def disk_error(error: OSError, folder: Path, *, instead: str) -> LauncherError:
    """What a write into `folder` that failed with `error` means."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TryAgain(
            f"the file system of {folder} ran full; what has arrived is kept",
            hint=f"free space there and run it again, or {instead}: df -h {folder}",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return UsageError(f"{error.filename or folder} cannot be written: {error.strerror}", hint=instead)
    if isinstance(error, FileExistsError | NotADirectoryError):
        path = Path(error.filename or folder)
        file = next((one for one in (path, *path.parents) if one.exists()), path)
        return UsageError(f"{file} is a file, and a folder is needed", hint=instead)
    return TryAgain(f"{folder} cannot be used: {error.strerror or error}", hint=instead)


def _taken(part: Path) -> int:
    try:
        return part.stat().st_blocks * _BLOCK
    except OSError:
        return 0
