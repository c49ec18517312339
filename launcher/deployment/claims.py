"""What deployments on this host were promised, so that two that start at once never plan the same bytes.

A claim is a file: bytes per GPU (by UUID where it has one) and of RAM, and the process it lives with: the launcher
that plans, then the supervisor. A claim whose process is gone is nothing. The folder is shared between users where
the system has a place for that; of others' files only those count whose process belongs to the file's owner.

What a process has taken already is no longer free and is not counted twice: of RAM a claim holds what was promised
beyond the process's own anonymous memory (mapped weights look available to the kernel, and are not to us), of a GPU
everything until it is loaded, and nothing after.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from launcher.deployment.identity import Presence, ProcessId, find_presence
from launcher.deployment.process import process_tree
from launcher.plan.amounts import RAM
from launcher.system.atomic_files import replacing

_LIMIT_BYTES = 1 << 16
_WAIT_S = 30.0
"""Another user's launcher that holds the lock longer is not waited for: its claim, if any, is written already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`rows` are bytes by GPU UUID (or llama.cpp's name where there is none) and RAM. `loaded` once the GPUs' part
    is taken."""

    name: str
    process: ProcessId
    rows: Mapping[str, int]
    loaded: bool = False


@contextmanager
def hold_planning_lock(folder: Path) -> Iterator[None]:
    """Hold this from looking at free memory until the claim is written. Gives up waiting after _WAIT_S, and goes on
    without the lock where the folder cannot be used: planning is worth more than never planning the same bytes."""
    descriptor = _open_lock(folder)
    try:
        deadline = time.monotonic() + _WAIT_S
        while descriptor is not None and not _locked(descriptor) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_lock(folder: Path) -> int | None:
    """The lock file, as it is, or made: in a sticky folder the kernel refuses O_CREAT on somebody else's file
    (sysctl fs.protected_regular), so the two are tried apart."""
    path, flags = folder / ".lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        make_shared_folder(folder)
    for extra in (0, os.O_CREAT | os.O_EXCL, 0):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, flags | extra, 0o666)
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o666)  # past the umask: other users lock the same file
            return descriptor
    return None


def make_shared_folder(folder: Path) -> None:
    """The folder exists; in a place all users share, everybody may add to it and remove only their own."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.parent.stat().st_mode & stat.S_ISVTX:  # as /dev/shm, /tmp: other users' launchers look here
        with contextlib.suppress(PermissionError):  # somebody else made it, like this
            folder.chmod(0o1777)


def write_claim(folder: Path, key: str, claim: Claim) -> None:
    """Make the claim, or take it over from the launcher that planned. Raises OSError."""
    make_shared_folder(folder)
    with replacing(_path(folder, key)) as file:
        file.write(json.dumps(asdict(claim)).encode())
        os.fchmod(file.fileno(), 0o644)  # other users' launchers read it


def drop_claim(folder: Path, key: str) -> None:
    with contextlib.suppress(OSError):
        _path(folder, key).unlink(missing_ok=True)


def read_claims(folder: Path, *, but_not: str | None = None) -> tuple[Claim, ...]:
    """Every claim that holds; files of processes that are gone are removed where we may."""
    found = []
    for path in sorted(folder.glob("*.claim")) if folder.is_dir() else []:
        if but_not is not None and path == _path(folder, but_not):
            continue
        claim = _read(path)
        if claim is not None and find_presence(claim.process) is Presence.RUNNING and _owns(claim, path):
            found.append(claim)
        elif claim is None or find_presence(claim.process) is Presence.GONE:
            with contextlib.suppress(OSError):
                path.unlink()
    return tuple(found)


def reserved_bytes(claims: tuple[Claim, ...]) -> dict[str, int]:
    """Bytes that look free and are not, by row."""
    total: dict[str, int] = {}
    for claim in claims:
        for row, size in claim.rows.items():
            left = max(0, size - _anonymous(claim.process)) if row == RAM else 0 if claim.loaded else size
            if left:
                total[row] = total.get(row, 0) + left
    return total


def claim_key(folder: Path, name: str) -> str:
    """One claim per deployment: user, name, and the folder its record is in."""
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]
    return f"{os.getuid()}-{name}-{digest}"


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}.claim"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise
    return True


def _read(path: Path) -> Claim | None:
    try:
        if path.is_symlink() or path.stat().st_size > _LIMIT_BYTES:
            return None
        given: Any = json.loads(path.read_text(encoding="utf-8"))
        rows = {str(row): int(size) for row, size in given["rows"].items() if int(size) > 0}
        return Claim(
            name=str(given["name"]),
            process=ProcessId(**given["process"]),
            rows=rows,
            loaded=bool(given["loaded"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _owns(claim: Claim, path: Path) -> bool:
    """The process belongs to whoever wrote the file: nobody can claim in another's name."""
    try:
        return bool(psutil.Process(claim.process.pid).uids().real == path.stat().st_uid)
    except (psutil.Error, OSError):
        return False


def _anonymous(process: ProcessId) -> int:
    """Memory of the process and its children that is no file's: proc(5), RssAnon and RssShmem."""
    return sum(_anonymous_of(member.pid) for member in process_tree(process))


def _anonymous_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(pid).memory_info().rss)  # a system that does not tell them apart
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
