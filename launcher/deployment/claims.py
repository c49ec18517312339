"""Reserve memory for deployments on this host: two that start at once never plan the same bytes.

A claim is a file and ends with the process that holds it: the launcher that plans, then the supervisor.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import psutil

from launcher.deployment.identity import Presence, ProcessId, find_presence, read_process
from launcher.deployment.record import is_name
from launcher.machine.machine import MAX_DEVICES
from launcher.system.json_object import MAX_WHOLE, JsonObject, Malformed, parse_json
from launcher.system.locks import try_lock
from launcher.system.owned_files import Owner, open_file, opened_folder, read_file, write_file

# A launcher that holds the lock longer has written its claim already, if it makes one.
WAIT_S = 30.0

# The folder is open to all users. What is beyond these is none of a launcher's, and is not looked at.
_LIMIT_BYTES = 1 << 14  # a claim on 16 GPUs has 1.5 KB
_MOST_ROWS = MAX_DEVICES + 1
_MOST_ROW_CHARS = 100  # a UUID has 40
_MOST_ROW_BYTES = 1 << 50  # 1 PiB: no machine has as much
_MOST_NAMES = 100_000  # 0.2 s to list
_MOST_OWNERS, _MOST_OF_ONE = 64, 64  # users, and deployments of one, the newest

_SUFFIX = ".claim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    name: str
    process: ProcessId
    rows: Mapping[str, int]  # bytes by GPU UUID (llama.cpp's name where there is none) and RAM
    loaded: bool = False  # the memory on GPUs is in use
    owner: int = field(default_factory=os.geteuid)  # a user's id: the file's owner, and not in the file

    @property
    def is_trusted(self) -> bool:
        """True for our own claims and root's."""
        return self.owner in {os.geteuid(), 0}


@contextmanager
def hold_planning_lock(folder: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock from the look at free memory until the claim is written.

    Calls `on_wait` once if another process holds it. Goes on without the lock after WAIT_S, and if the folder
    cannot be used.
    """
    descriptor = _open_lock(folder)  # None: a plan that might share memory with another is better than none
    try:
        if descriptor is not None and not try_lock(descriptor):
            on_wait()  # any user can hold it
            deadline = time.monotonic() + WAIT_S
            while not try_lock(descriptor) and time.monotonic() < deadline:
                time.sleep(0.05)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def write_claim(folder: Path, key: str, claim: Claim) -> None:
    """Write the claim; a supervisor's replaces its launcher's. Raises OSError."""
    document = {name: value for name, value in asdict(claim).items() if name != "owner"}
    with opened_folder(folder, create=True) as opened:
        write_file(opened, key + _SUFFIX, json.dumps(document).encode(), mode=0o644)  # for all to read


def drop_claim(folder: Path, key: str) -> None:
    with contextlib.suppress(OSError), opened_folder(folder) as opened:
        os.unlink(key + _SUFFIX, dir_fd=opened)


def read_claims(folder: Path, *, but_not: str | None = None) -> tuple[Claim, ...]:
    """Return the claims of living processes, except `but_not`; remove our own dead ones."""
    claims: list[Claim] = []
    with contextlib.suppress(OSError), opened_folder(folder) as opened:
        is_alive = _remembering(_lives)
        for owner, name in _names(opened):
            if but_not is not None and name == but_not + _SUFFIX:
                continue
            claim = _read(opened, name)
            if claim is not None and is_alive(claim.process, claim.owner):
                claims.append(claim)
            elif owner == os.geteuid() and (claim is None or _is_gone(claim)):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=opened)
    return tuple(claims)


def claim_key(folder: Path, name: str) -> str:
    # One for each user, folder of records, and name.
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]
    return f"{os.getuid()}-{name}-{digest}"


def parse_claim(text: bytes, owner: int) -> Claim:
    """Parse the claim in a file of `owner`. Raises Malformed."""
    given = JsonObject(parse_json(text))
    name, rows = given.text("name"), given.mapping("rows")
    if not is_name(name) or len(rows) > _MOST_ROWS or not all(map(_is_row, rows)):
        raise Malformed("it is no claim of a launcher")
    most = MAX_WHOLE if owner not in {os.geteuid(), 0} else _MOST_ROW_BYTES  # a stranger's counts otherwise
    sizes = {row: given.object_at("rows").whole(row, 0, most) for row in rows}
    return Claim(
        name=name,
        process=read_process(given.object_at("process")),
        rows={row: size for row, size in sizes.items() if size > 0},
        loaded=given.flag("loaded"),
        owner=owner,
    )


def _is_row(row: str) -> bool:
    return len(row) <= _MOST_ROW_CHARS and row.isascii() and row.isprintable()


def _open_lock(folder: Path) -> int | None:
    # Anybody's: all users lock the same file.
    with contextlib.suppress(OSError), opened_folder(folder, create=True) as opened:
        descriptor = open_file(
            ".lock", os.O_RDWR | os.O_CREAT, owner=Owner.ANYONES, folder=opened, mode=0o666
        )
        if os.fstat(descriptor).st_uid == os.geteuid():
            is_shared = os.fstat(opened).st_mode & stat.S_ISVTX
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, 0o666 if is_shared else 0o600)  # past the umask
        return descriptor
    return None


def _names(folder: int) -> Iterator[tuple[int, str]]:
    """Yield owner and name of the newest claims of each user, our own and root's first."""
    found: dict[int, list[tuple[int, str]]] = {}
    with os.scandir(folder) as entries:
        for entry in islice(entries, _MOST_NAMES):
            if entry.name.endswith(_SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(about.st_mode):
                        found.setdefault(about.st_uid, []).append((-about.st_mtime_ns, entry.name))
    for owner in sorted(found, key=lambda uid: (uid != os.geteuid(), uid))[:_MOST_OWNERS]:
        for _, name in sorted(found[owner])[:_MOST_OF_ONE]:
            yield owner, name


def _read(folder: int, name: str) -> Claim | None:
    try:
        text, about = read_file(name, _LIMIT_BYTES, owner=Owner.ANYONES, folder=folder)
        return parse_claim(text, about.st_uid)
    except (OSError, Malformed):
        return None


def _is_gone(claim: Claim) -> bool:
    return find_presence(claim.process) is Presence.GONE


def _lives(process: ProcessId, owner: int) -> bool:
    # Nobody can claim in another user's name.
    try:
        is_owners = psutil.Process(process.pid).uids().real == owner
    except (psutil.Error, OSError):
        return False
    return bool(is_owners) and find_presence(process) is Presence.RUNNING


def _remembering(judge: Callable[[ProcessId, int], bool]) -> Callable[[ProcessId, int], bool]:
    # Many claims may name one process, which takes 0.2 ms to look at.
    known: dict[tuple[ProcessId, int], bool] = {}

    def judged(process: ProcessId, owner: int) -> bool:
        if (process, owner) not in known:
            known[process, owner] = judge(process, owner)
        return known[process, owner]

    return judged
