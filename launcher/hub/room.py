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
_REMOVE = "launcher ls, then launcher rm MODEL"
RUN_AGAIN = "run it again"
"""Where the command that goes on is not known."""


ToCome = tuple[Shard, Path]
"""A file that is not here yet, with its partial file, whose blocks are taken already."""


def refuse_full_disk(
    folder: Path,
    missing: Iterable[ToCome],
    *,
    what: str,
    instead: str,
    yields: int = 0,
    later: Iterable[ToCome] = (),
) -> None:
    """`missing` are the files to come; `later` those that come after them, which count where they go to the same file
    system. `what` names them, `instead` says where else they could go; `yields` bytes will be freed before. Raises
    TryAgain with how much to free."""
    here = _existing(folder).stat().st_dev
    there = (one for one in later if _existing(one[1]).stat().st_dev == here)
    needed, free = _needed([*missing, *there]), _free(folder)
    lacks = needed - free - yields
    if lacks > 0:
        removed = f" and {format_bytes(yields)} in damaged files" if yields else ""
        raise TryAgain(
            f"{what} needs {format_bytes(needed)} on the file system of {folder}, which has {format_bytes(free)} free"
            f"{removed}: {format_bytes(lacks)} too little",
            hint=f"free {format_bytes(lacks)} there, or {instead}: {_REMOVE}",
        )


def removal_yields(path: Path, folder: Path) -> int:
    """Bytes that are free once the file is removed from `folder`: none of a link to a file elsewhere, or of one that has
    other names."""
    file = path.resolve()
    if not file.is_relative_to(folder.resolve()) or file.stat().st_nlink > 1:
        return 0
    return _taken(file)


def disk_error(
    error: OSError,
    folder: Path,
    *,
    instead: str,
    missing: Iterable[ToCome] = (),
    again: str = RUN_AGAIN,
) -> LauncherError:
    """What a write into `folder` that failed with `error` means. `missing` is what is still to come, each with its partial
    file; `again` is the command that goes on."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _ran_full(error, folder, instead, _needed(missing), again)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return UsageError(f"{error.filename or folder} cannot be written: {error.strerror}", hint=instead)
    if isinstance(error, FileExistsError | NotADirectoryError):
        path = Path(error.filename or folder)
        file = next((one for one in (path, *path.parents) if one.exists()), path)
        return UsageError(f"{file} is a file, and a folder is needed", hint=instead)
    return TryAgain(f"{folder} cannot be used: {error.strerror or error}", hint=instead)


def _ran_full(error: OSError, folder: Path, instead: str, needed: int, again: str) -> TryAgain:
    free = _free(folder)
    what = "your quota on the file system" if error.errno == errno.EDQUOT else "the file system"
    more = (
        f": {format_bytes(needed)} more are needed" if needed else ""
    )  # else all was promised by preallocation
    much = format_bytes(needed - free) if needed > free else "space"
    return TryAgain(
        f"{what} of {folder} ran full; what has arrived is kept{more}, and {format_bytes(free)} are free",
        hint=f"free {much} there ({_REMOVE}), or {instead}; it goes on where it stopped: {again}",
    )


def _needed(missing: Iterable[ToCome]) -> int:
    lacks = sum(max(0, shard.size_bytes - _taken(part)) for shard, part in missing)
    return lacks * (_SPARE + 1) // _SPARE


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _taken(path: Path) -> int:
    try:
        return path.stat().st_blocks * _BLOCK
    except OSError:
        return 0
