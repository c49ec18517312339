"""Compare files that are here with their sha256, several at once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO

from launcher.models.store import HubStore
from launcher.progress import OnProgress, Step, remark
from launcher.system.small_files import open_regular
from launcher.units import MIB

_CHUNK = 4 * MIB
_HASHERS = 4  # a core hashes 1.4 GB/s (measured, 2 GB in 1.5 s): four outrun most disks
_REPORT_EVERY_S = 0.2


def hash_files(
    files: Sequence[tuple[Path, str]],
    store: HubStore,
    on_progress: OnProgress,
    *,
    rehash: bool = False,
    skip_unreadable: bool = False,
) -> tuple[str, ...]:
    """Return the sha256 of each file, listed with the expected one.

    Raises OSError for an unreadable file; with `skip_unreadable` the user is told and its hash is "".
    """
    # A file that matched before is not read again unless `rehash`, and is forgotten if it differs then. A
    # file may be listed with several hashes; it is read once.
    expected = [(path.resolve(), sha256) for path, sha256 in files]
    known = set() if rehash else {file for file in expected if store.is_verified(*file)}
    unknown = [file for file in dict.fromkeys(expected) if file not in known]
    hashes: dict[Path, str] = {}
    if unknown:
        hashes = _hash_all(list(dict.fromkeys(path for path, _ in unknown)), on_progress, skip_unreadable)
        for path, sha256 in unknown:
            if hashes[path] == sha256:
                store.keep_verified(path, sha256)
            elif rehash and store.is_verified(path, sha256):
                store.forget_verified(path)
    # a file may be known to have one hash and be read for another
    return tuple(sha256 if (path, sha256) in known else hashes.get(path, sha256) for path, sha256 in expected)


def _hash_all(paths: Sequence[Path], on_progress: OnProgress, skip_unreadable: bool) -> dict[Path, str]:
    stop, lock, done = threading.Event(), threading.Lock(), [0]

    def hash_one(path: Path) -> str:
        digest = hashlib.sha256()
        with _open_without_atime(path) as file:
            while (chunk := file.read(_CHUNK)) and not stop.is_set():
                digest.update(chunk)
                with lock:
                    done[0] += len(chunk)
        return digest.hexdigest()

    def result(path: Path, hashed: Future[str]) -> str:
        try:
            return hashed.result()
        except OSError as error:
            if not skip_unreadable:
                raise
            on_progress(remark("verify", f"{path} cannot be read: {error.strerror}; it is not used"))
            return ""

    total = sum(_size(path) for path in paths)
    pool = ThreadPoolExecutor(max_workers=_HASHERS, thread_name_prefix="sha256")
    try:
        futures = {path: pool.submit(hash_one, path) for path in paths}
        pending = set(futures.values())
        while pending:
            _, pending = wait(pending, timeout=_REPORT_EVERY_S)
            on_progress(Step(phase="verify", done=done[0], total=total, unit="bytes"))
        return {path: result(path, future) for path, future in futures.items()}
    finally:  # also after Ctrl-C
        stop.set()
        pool.shutdown(cancel_futures=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reported when it is opened
        return 0


def _open_without_atime(path: Path) -> BinaryIO:
    # reading must not change the time of last use
    try:
        return open_regular(path, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # O_NOATIME is for the owner only (open(2))
        return open_regular(path)
