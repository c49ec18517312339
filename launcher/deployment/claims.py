"""Reserve memory for deployments on this host: two that start at once never plan the same bytes.

A claim is a file and ends with the process that holds it: the launcher that plans, then the supervisor.
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

import psutil

from launcher.deployment.identity import Presence, ProcessId, find_presence, read_process
from launcher.deployment.process import process_tree
from launcher.plan.amounts import RAM
from launcher.system.atomic_files import replacing
from launcher.system.json_object import JsonObject

_LIMIT_BYTES = 1 << 16

# A launcher that holds the lock longer has written its claim already, if it makes one.
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    name: str
    process: ProcessId
    rows: Mapping[str, int]  # bytes by GPU UUID (llama.cpp's name where there is none) and RAM
    loaded: bool = False  # the memory on GPUs is in use


@contextmanager
def hold_planning_lock(folder: Path) -> Iterator[None]:
    """Hold the lock from the look at free memory until the claim is written.

    Goes on without the lock after _WAIT_S, and if the folder cannot be used.
    """
    descriptor = _open_lock(folder)  # None: a plan that might share memory with another is better than none
    try:
        deadline = time.monotonic() + _WAIT_S
        while descriptor is not None and not _locked(descriptor) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_lock(folder: Path) -> int | None:
    path, flags = folder / ".lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        make_shared_folder(folder)
    # Opened and created apart: in a sticky folder the kernel refuses O_CREAT on somebody else's file
    # (sysctl fs.protected_regular).
    for extra in (0, os.O_CREAT | os.O_EXCL, 0):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, flags | extra, 0o666)
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o666)  # past the umask: other users lock the same file
            return descriptor
    return None


def make_shared_folder(folder: Path) -> None:
    """Make the folder; where all users share it, each may remove only their own files."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.parent.stat().st_mode & stat.S_ISVTX:  # like /dev/shm, /tmp: other users' launchers look here
        with contextlib.suppress(PermissionError):  # another user made it, with the same mode
            folder.chmod(0o1777)


def write_claim(folder: Path, key: str, claim: Claim) -> None:
    """Write the claim; a supervisor's replaces its launcher's. Raises OSError."""
    make_shared_folder(folder)
    with replacing(_path(folder, key)) as file:
        file.write(json.dumps(asdict(claim)).encode())
        os.fchmod(file.fileno(), 0o644)  # other users' launchers read it


def drop_claim(folder: Path, key: str) -> None:
    with contextlib.suppress(OSError):
        _path(folder, key).unlink(missing_ok=True)


def read_claims(folder: Path, *, but_not: str | None = None) -> tuple[Claim, ...]:
    """Return the claims of living processes, except `but_not`; remove dead ones."""
    claims = []
    for path in sorted(folder.glob("*.claim")) if folder.is_dir() else []:
        if but_not is not None and path == _path(folder, but_not):
            continue
        claim = _read(path)
        if claim is not None and find_presence(claim.process) is Presence.RUNNING and _owns(claim, path):
            claims.append(claim)
        elif claim is None or find_presence(claim.process) is Presence.GONE:
            with contextlib.suppress(OSError):
                path.unlink()
    return tuple(claims)


def reserved_bytes(claims: tuple[Claim, ...]) -> dict[str, int]:
    """Return reserved bytes that the system still reports as free, by GPU and RAM."""
    total: dict[str, int] = {}
    for claim in claims:
        for row, size in claim.rows.items():
            if row == RAM:
                # Mapped weights look available to the kernel and are not available to a plan, so only the
                # process's anonymous memory counts as taken.
                left = max(0, size - _anonymous_bytes(claim.process))
            else:
                left = 0 if claim.loaded else size
            if left:
                total[row] = total.get(row, 0) + left
    return total


def claim_key(folder: Path, name: str) -> str:
    # One for each user, folder of records, and name.
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
        given = JsonObject(json.loads(path.read_text(encoding="utf-8")))
        rows = given.object_at("rows")
        sizes = {row: rows.whole(row) for row in given.mapping("rows")}
        return Claim(
            name=given.text("name"),
            process=read_process(given.object_at("process")),
            rows={row: size for row, size in sizes.items() if size > 0},
            loaded=given.flag("loaded"),
        )
    except (OSError, ValueError, RecursionError):
        return None


def _owns(claim: Claim, path: Path) -> bool:
    # Nobody can claim in another user's name.
    try:
        return bool(psutil.Process(claim.process.pid).uids().real == path.stat().st_uid)
    except (psutil.Error, OSError):
        return False


def _anonymous_bytes(process: ProcessId) -> int:
    return sum(_anonymous_bytes_of(member.pid) for member in process_tree(process))


def _anonymous_bytes_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(pid).memory_info().rss)  # this system does not tell them apart
        return 0
    # Memory that belongs to no file: proc(5).
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
