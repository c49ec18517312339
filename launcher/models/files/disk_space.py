"""Room on a disk: asked before the first byte, and what a disk that refuses means to the user."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from launcher.errors import LauncherError, TryAgain, UsageError
from launcher.gguf.model import Shard
from launcher.units import format_bytes

_SPARE = 50  # one 50th on top (2 %): file system metadata, journals, refs, logs
_BLOCK = 512  # st_blocks counts in these, whatever the file system's own block size (POSIX stat)
_REMOVE = "launcher ls, then launcher rm MODEL"
RUN_AGAIN = "run it again"
"""Where the command that goes on is not known."""


MissingFile = tuple[Shard, Path]
"""A file that is not here yet, with its partial file, whose blocks are taken already."""


def refuse_full_disk(
    folder: Path,
    missing: Iterable[MissingFile],
    *,
    what: str,
    instead: str,
    again: str = "",
    yields: int = 0,
    later: Iterable[MissingFile] = (),
) -> None:
    """`missing` are the files to come; `later` those that come after them, which count where they go to the same file
    system. `what` names the first, `instead` says where else they could go; `again` is the command that was typed, where
    it is known; `yields` bytes will be freed before. Raises TryAgain with how much to free."""
    beside = [one for one in later if same_file_system(one[1], folder)]
    needed, free = _needed([*missing, *beside]), _free(folder)
    lacks = needed - free - yields
    if lacks > 0:
        removed = f" and {format_bytes(yields)} in damaged files" if yields else ""
        raise TryAgain(
            f"{_named(what, beside)} {format_bytes(needed)} on the file system of {folder}, which has"
            f" {format_bytes(free)} free{removed}: {format_bytes(lacks)} too little",
            hint=_ways(format_bytes(lacks), instead) + (f", then: {again}" if again else ""),
        )


def has_room(folder: Path, missing: Iterable[MissingFile], later: Iterable[MissingFile]) -> bool:
    """Whether `refuse_full_disk` would refuse nothing."""
    try:
        refuse_full_disk(folder, missing, what="", instead="", later=later)
    except TryAgain:
        return False
    return True


def same_file_system(path: Path, folder: Path) -> bool:
    """Whether both are, or would be, on one file system."""
    return _existing(path).stat().st_dev == _existing(folder).stat().st_dev


def _named(what: str, beside: Sequence[MissingFile]) -> str:
    if not beside:
        return f"{what} needs"
    n_more = len(beside) - 1
    more = f" and {n_more} more {'file' if n_more == 1 else 'files'}" if n_more else ""
    return f"{what} and, beside it, {beside[0][0].name}{more} need"


def _ways(much: str, instead: str) -> str:
    return f"free {much} there ({_REMOVE}), or {instead}"


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
    missing: Iterable[MissingFile] = (),
    again: str = RUN_AGAIN,
) -> LauncherError:
    """What a write into `folder` that failed with `error` means. `missing` is what is still to come, each with its partial
    file; `again` is the command that goes on."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _ran_full(error, folder, instead, _needed(missing), again)
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return UsageError(f"{error.filename or folder} cannot be written: {error.strerror}", hint=instead)
    if error.errno == errno.EFBIG:
        return _too_large(folder, instead, missing, again)
    if isinstance(error, IsADirectoryError):
        path = error.filename2 or error.filename or folder
        return UsageError(
            f"{path} is a folder, and a file is needed", hint=f"{instead}, or move that folder away"
        )
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
        hint=f"{_ways(much, instead)}; it goes on where it stopped: {again}",
    )


def _too_large(folder: Path, instead: str, missing: Iterable[MissingFile], again: str) -> UsageError:
    largest = max((shard for shard, _ in missing), key=lambda shard: shard.size_bytes, default=None)
    file = f"{largest.name}, {format_bytes(largest.size_bytes)}," if largest else "a file"
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest and resource.RLIM_INFINITY != limit < largest.size_bytes:
        return UsageError(
            f"{file} is above the limit of this process for one file, {format_bytes(limit)} (ulimit -f)",
            hint=f"ulimit -f unlimited, then: {again}",
        )
    return UsageError(
        f"{file} is above the limit that the file system of {folder} has for one file (4 GiB where it is FAT)",
        hint=f"{instead}, on another file system",
    )


def _needed(missing: Iterable[MissingFile]) -> int:
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
