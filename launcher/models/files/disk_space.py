"""Refuse a full disk before the first byte, and explain errors of the disk."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LauncherError, TryAgain, UsageError
from launcher.gguf.model import Shard
from launcher.units import format_bytes

_SPARE = 50  # one 50th on top (2 %): file system metadata, journals, refs, logs
_BLOCK = 512  # st_blocks counts in these, whatever the file system's own block size (POSIX stat)
_REMOVE = "launcher ls, then launcher rm MODEL"
RUN_AGAIN = "run it again"
"""The hint where the command that continues is not known."""


MissingFile = tuple[Shard, Path]
"""A file that is not here yet, with the path of its partial file, whose blocks are already taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A folder that files are brought to."""

    folder: Path
    alternative: str  # for hints: where else the files could go
    retry: str = ""  # the command to type again; empty if unknown


def refuse_full_disk(
    destination: Destination,
    missing: Iterable[MissingFile],
    *,
    what: str,
    freed_bytes: int = 0,
    later: Iterable[MissingFile] = (),
) -> None:
    """Raise TryAgain if the disk has too little space for `missing`, saying how much to free.

    `later` counts if it goes to the same file system; `freed_bytes` will be freed before.
    """
    # `what` names the missing files in the message
    folder = destination.folder
    companions = _on_the_same_disk(later, folder)
    needed, free = _needed([*missing, *companions]), _free(folder)
    lacking = needed - free - freed_bytes
    if lacking > 0:
        removed = f" and {format_bytes(freed_bytes)} in damaged files" if freed_bytes else ""
        then = f", then: {destination.retry}" if destination.retry else ""
        raise TryAgain(
            f"{_named(what, companions)} {format_bytes(needed)} on the file system of {folder}, which has"
            f" {format_bytes(free)} free{removed}: {format_bytes(lacking)} too little",
            hint=_remedies(format_bytes(lacking), destination) + then,
        )


def has_room(folder: Path, missing: Iterable[MissingFile], later: Iterable[MissingFile]) -> bool:
    # as `refuse_full_disk`
    return _needed([*missing, *_on_the_same_disk(later, folder)]) <= _free(folder)


def same_file_system(path: Path, folder: Path) -> bool:
    """Return True if both are, or would be, on one file system."""
    return _nearest_existing(path).stat().st_dev == _nearest_existing(folder).stat().st_dev


def freed_by_removal(path: Path, folder: Path) -> int:
    """Return the bytes freed by removing `path` from `folder`."""
    # none for a link to a file outside, or for a file with other names
    file = path.resolve()
    if not file.is_relative_to(folder.resolve()) or file.stat().st_nlink > 1:
        return 0
    return _taken(file)


def disk_error(
    error: OSError, destination: Destination, *, missing: Iterable[MissingFile] = ()
) -> LauncherError:
    """Return the error for a failed write; `missing` is still to come."""
    folder, alternative = destination.folder, destination.alternative
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _ran_full(error, destination, _needed(missing))
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return UsageError(f"{error.filename or folder} cannot be written: {error.strerror}", hint=alternative)
    if error.errno == errno.EFBIG:
        return _too_large(destination, missing)
    if isinstance(error, IsADirectoryError):
        path = error.filename2 or error.filename or folder
        return UsageError(
            f"{path} is a folder, and a file is needed", hint=f"{alternative}, or move that folder away"
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        path = Path(error.filename or folder)
        file = next((above for above in (path, *path.parents) if above.exists()), path)
        return UsageError(f"{file} is a file, and a folder is needed", hint=alternative)
    return TryAgain(f"{folder} cannot be used: {error.strerror or error}", hint=alternative)


def _named(what: str, companions: Sequence[MissingFile]) -> str:
    if not companions:
        return f"{what} needs"
    n_more = len(companions) - 1
    more = f" and {n_more} more {'file' if n_more == 1 else 'files'}" if n_more else ""
    return f"{what} and, beside it, {companions[0][0].name}{more} need"


def _remedies(much: str, destination: Destination) -> str:
    return f"free {much} there ({_REMOVE}), or {destination.alternative}"


def _ran_full(error: OSError, destination: Destination, needed: int) -> TryAgain:
    folder, free = destination.folder, _free(destination.folder)
    what = "your quota on the file system" if error.errno == errno.EDQUOT else "the file system"
    # with nothing needed, preallocation had reserved all of it: the disk (a thin volume) broke that promise
    more = f": {format_bytes(needed)} more are needed" if needed else ""
    much = format_bytes(needed - free) if needed > free else "space"
    retry = destination.retry or RUN_AGAIN
    return TryAgain(
        f"{what} of {folder} ran full; what has arrived is kept{more}, and {format_bytes(free)} are free",
        hint=f"{_remedies(much, destination)}; it goes on where it stopped: {retry}",
    )


def _too_large(destination: Destination, missing: Iterable[MissingFile]) -> UsageError:
    folder = destination.folder
    largest = max((shard for shard, _ in missing), key=lambda shard: shard.size_bytes, default=None)
    file = f"{largest.name}, {format_bytes(largest.size_bytes)}," if largest else "a file"
    # EFBIG is the process's own limit or the file system's: only the first can be asked for
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest and resource.RLIM_INFINITY != limit < largest.size_bytes:
        return UsageError(
            f"{file} is above the limit of this process for one file, {format_bytes(limit)} (ulimit -f)",
            hint=f"ulimit -f unlimited, then: {destination.retry or RUN_AGAIN}",
        )
    return UsageError(
        f"{file} is above the limit that the file system of {folder} has for one file"
        " (4 GiB where it is FAT)",
        hint=f"{destination.alternative}, on another file system",
    )


def _on_the_same_disk(files: Iterable[MissingFile], folder: Path) -> list[MissingFile]:
    return [file for file in files if same_file_system(file[1], folder)]


def _needed(missing: Iterable[MissingFile]) -> int:
    lacking = sum(max(0, shard.size_bytes - _taken(partial)) for shard, partial in missing)
    return lacking * (_SPARE + 1) // _SPARE


def _free(folder: Path) -> int:
    return shutil.disk_usage(_nearest_existing(folder)).free


def _nearest_existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _taken(path: Path) -> int:
    try:
        return path.stat().st_blocks * _BLOCK
    except OSError:
        return 0
