"""Fetching what `url` opened: one file after the other, resumed where it broke off, checked before it counts.

A file being fetched is `NAME.VERSION.incomplete`, VERSION from the server's ETag: a file that changed there is
begun anew. It gets its name once it has the size and the very header that were read when it was planned.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import httpx2

from launcher.errors import LauncherError, TryAgain, UsageError
from launcher.hub.located import Located, OnProgress, UrlFiles
from launcher.hub.url import answered, content_range, open_client, shown, version_of
from launcher.units import format_bytes


def fetch_url_files(
    located: Located, files: UrlFiles, models_dir: Path, on_progress: OnProgress
) -> tuple[Path, ...]:
    """Local paths of all shards, those fetched before taken as they are. Raises TryAgain for network and disk."""
    folder = models_dir / hashlib.sha256(files.urls[0].encode()).hexdigest()[:40]
    paths = tuple(folder / shard.name for shard in located.model.shards)
    sizes = [shard.size_bytes for shard in located.model.shards]
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        todo = [not _is_there(path, size) for path, size in zip(paths, sizes, strict=True)]
        done = sum(size for size, missing in zip(sizes, todo, strict=True) if not missing)
        _check_room(folder, sum(sizes) - done)
        on_progress(done, sum(sizes))
        with open_client() as client, _only_one(folder):
            for index, missing in enumerate(todo):
                if not missing:
                    continue
                report = partial(_report, on_progress, done, sum(sizes))
                url, raw_header = files.urls[index], located.raw_headers[index]
                _Download(client, url, paths[index], sizes[index], raw_header).run(report)
                done += sizes[index]
    return paths


def _report(on_progress: OnProgress, before: int, total: int, n_bytes: int) -> None:
    on_progress(before + n_bytes, total)


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free + sum(
        part.stat().st_blocks * 512 for part in folder.glob("*.incomplete")
    )
    if needed > free:
        raise TryAgain(
            f"{folder} has room for {format_bytes(free)}, and {format_bytes(needed)} are to be fetched",
            hint=f"free space there, or move it with LAUNCHER_HOME: df -h {folder}",
        )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One process fetches into a folder at a time; the lock goes with the process."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TryAgain(
                f"another launcher is fetching into {folder}", hint="wait for it, then run it again"
            ) from None
        yield


class _Download:
    """One file, from a URL into its place."""

    def __init__(
        self, client: httpx2.Client, url: str, path: Path, size_bytes: int, raw_header: bytes
    ) -> None:
        self._client = client
        self._url = url
        self._path = path
        self._size_bytes = size_bytes
        self._raw_header = raw_header

    def run(self, on_progress: Callable[[int], None]) -> None:
        part = next(iter(sorted(self._path.parent.glob(f"{self._path.name}.*.incomplete"))), None)
        offset = min(part.stat().st_size, self._size_bytes) if part else 0
        if part is None or not self._attempt(offset, on_progress, part):
            for stale in self._path.parent.glob(f"{self._path.name}.*.incomplete"):
                stale.unlink()
            self._attempt(0, on_progress, None)

    def _attempt(self, offset: int, on_progress: Callable[[int], None], part: Path | None) -> bool:
        """Fetch from `offset` on; False, with nothing written, if `part` is of another version of the file."""
        if part is not None and offset == self._size_bytes:
            self._finish(part)
            return True
        with answered(self._client, self._url, offset) as response:
            if response.status_code == 416:
                return self._gave_up(part)
            first, size = content_range(response, shown(self._url))
            version = hashlib.sha256(version_of(response).encode()).hexdigest()[:8]
            target = self._path.with_name(f"{self._path.name}.{version}.incomplete")
            if part is not None and (first != offset or part != target):
                return False
            if first != offset or size != self._size_bytes:
                raise self._changed()
            with target.open("ab") as file:
                self._write(response, file, on_progress)
        self._finish(target)
        return True

    def _gave_up(self, part: Path | None) -> bool:
        if part is None:
            raise self._changed()
        return False

    def _write(self, response: httpx2.Response, file: BinaryIO, on_progress: Callable[[int], None]) -> None:
        position = file.tell()
        for piece in response.iter_raw():
            kept = piece[: self._size_bytes - position]
            file.write(kept)
            position += len(kept)
            on_progress(position)
            if len(kept) < len(piece):
                break
        if position < self._size_bytes:
            raise TryAgain(
                f"{shown(self._url)} broke off after {position} of {self._size_bytes} bytes",
                hint="run it again: it goes on where it stopped",
            )

    def _finish(self, part: Path) -> None:
        with part.open("rb") as file:
            header = file.read(len(self._raw_header))
        if header != self._raw_header or part.stat().st_size != self._size_bytes:
            part.unlink()
            raise self._changed()
        part.replace(self._path)

    def _changed(self) -> TryAgain:
        return TryAgain(f"{shown(self._url)} changed since its header was read", hint="run it again")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explain(error, folder) from error


def _explain(error: OSError, folder: Path) -> LauncherError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TryAgain(f"the file system of {folder} ran full", hint=f"free space there: df -h {folder}")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return UsageError(
            f"{folder} cannot be written: {error.strerror}", hint="set LAUNCHER_HOME to a folder of yours"
        )
    return TryAgain(f"{folder} cannot be used: {error.strerror}", hint=f"df -h {folder}")
