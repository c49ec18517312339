"""Files that are here, compared with their sha256: several at once, remembered once found right."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from launcher.models.store import HubStore
from launcher.progress import OnProgress, Step, remark
from launcher.units import MIB

_CHUNK = 4 * MIB
_HASHERS = 4  # a core hashes 1.4 GB/s (measured, 2 GB in 1.5 s): four outrun most disks
_REPORT_EVERY_S = 0.2


def hash_files(
    files: Sequence[tuple[Path, str]],
    store: HubStore,
    on_progress: OnProgress,
    *,
    anew: bool = False,
    pass_over: bool = False,
) -> tuple[str, ...]:
    """The sha256 of each file, to be compared with the one beside it; what was found right before is not read again unless
    `anew`, and forgotten where it is wrong then. A file may be asked about with several hashes, and is read once.

    Raises OSError for one that cannot be read, or, with `pass_over`, says so and gives it the sha256 "". Leaving early
    (Ctrl-C) stops the threads.
    """
    asked = [(path.resolve(), sha256) for path, sha256 in files]
    right = set() if anew else {one for one in asked if store.is_verified(*one)}
    todo = [one for one in dict.fromkeys(asked) if one not in right]
    found: dict[Path, str] = {}
    if todo:
        found = _hash_all(list(dict.fromkeys(path for path, _ in todo)), on_progress, pass_over)
        for path, sha256 in todo:
            if found[path] == sha256:
                store.keep_verified(path, sha256)
            elif anew and store.is_verified(path, sha256):
                store.forget_verified(path)
    return tuple(found.get(path, sha256) if (path, sha256) not in right else sha256 for path, sha256 in asked)


def _hash_all(paths: Sequence[Path], on_progress: OnProgress, pass_over: bool) -> dict[Path, str]:
    stop, lock, done = threading.Event(), threading.Lock(), [0]

    def hash_one(path: Path) -> str:
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0, opener=_unseen) as file:
            while (chunk := file.read(_CHUNK)) and not stop.is_set():
                digest.update(chunk)
                with lock:
                    done[0] += len(chunk)
        return digest.hexdigest()

    def result(path: Path, hashed: Future[str]) -> str:
        try:
            return hashed.result()
        except OSError as error:
            if not pass_over:
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
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # said when it is opened
        return 0


def _unseen(path: str, flags: int) -> int:
    """Opened without a trace in the time of last use, which only a file's owner may."""
    try:
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        return os.open(path, flags)
