"""Keep the records of deployments in a folder.

NAME.json      the record (0600)
NAME.log       llama-server's log, with NAME.log.1 and .2 before it
NAME.progress  how far a load is
NAME.gang      the last epoch of a gang, and which machines it lost
NAME.lock      held by the launcher that starts it, until it is ready
.seal          the key of the seals on records (seal.py)
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from launcher.deployment.install.systemd import installed_units
from launcher.deployment.record import (
    Deployment,
    UnreadableRecord,
    check_name,
    parse_deployment,
    record_json,
)
from launcher.errors import NotFound, TryAgain, UsageError
from launcher.system.locks import exclusive, exclusive_if_free
from launcher.system.owned_files import read_file

# What starting a deployment writes besides its log: its record twice (the new one before the old one goes), a
# claim, progress, a line of history. A record of 60 devices has about 30 kB.
_RECORDS_BYTES = 256 << 10

_MAX_RECORD_BYTES = 16 << 20


def log_path(folder: Path, name: str) -> Path:
    return folder / f"{check_name(name)}.log"


def state_path(folder: Path, name: str) -> Path:
    return folder / f"{check_name(name)}.json"


def marker_of(folder: Path, name: str) -> str:
    return str(state_path(folder, name).absolute())  # the value of process.MARKER


def progress_path(folder: Path, name: str) -> Path:
    return folder / f"{check_name(name)}.progress"  # a supervisor writes it for the launcher


def gang_path(folder: Path, name: str) -> Path:
    return folder / f"{check_name(name)}.gang"  # what a gang's runs leave for the next


def save_record(folder: Path, deployment: Deployment) -> None:
    """Write the record, whole or not at all, and sync it to disk. Raises OSError."""
    path = state_path(folder, deployment.name)
    text = json.dumps(record_json(deployment), indent=2, ensure_ascii=False) + "\n"
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  the descriptor is the file
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(folder)


def check_disk_space(folder: Path) -> None:
    """Raise TryAgain if records, claims and a log cannot be written to the folder."""
    try:
        make_private(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_RECORDS_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise records_unwritable(folder, error) from error


def records_unwritable(folder: Path, error: OSError | None = None) -> TryAgain:
    if error is None:
        problem = f"the records of what runs could not be written to {folder}"
    elif error.errno in {errno.ENOSPC, errno.EDQUOT}:
        problem = f"{folder}, which keeps the records of what runs, is full"
    else:
        problem = f"the records of what runs cannot be written to {folder}: {error.strerror}"
    return TryAgain(problem, hint=f"look at df -h {shlex.quote(str(folder))}, free some space, and try again")


def find_record(folder: Path, name: str) -> Deployment | UnreadableRecord | None:
    """Return the record of that name. Raises UsageError for a bad name."""
    try:
        path = state_path(folder, name)
    except UsageError as error:
        error.hint = "launcher ps"  # nothing is to be named here, but found
        raise
    return _read(path)


def read_all(folder: Path) -> tuple[Deployment | UnreadableRecord, ...]:
    found = (_read(path) for path in sorted(folder.glob("*.json")))
    return tuple(entry for entry in found if entry is not None)


def require_record(folder: Path, name: str) -> Deployment:
    """Return the record of that name. Raises NotFound naming those there are, UsageError."""
    entry = find_record(folder, name)
    if isinstance(entry, UnreadableRecord):
        raise UsageError(f"{entry.path}: {entry.problem}", hint=f"launcher stop {name}")
    if entry is None:
        if name in dict(installed_units()):
            raise NotFound(
                f"{name} is a unit of systemd, not a deployment of up",
                hint=f"launcher disable {name}",
            )
        known = ", ".join(other.name for other in read_all(folder))
        raise NotFound(
            f"no deployment is called {name}; there is {known or 'none'}",
            hint="launcher ps" if known else "launcher up smollm2-135m",
        )
    return entry


def name_or_only(folder: Path, name: str | None) -> str:
    """Return `name`, or that of the only deployment. Raises NotFound, or UsageError if several."""
    if name is not None:
        return name
    names = [entry.name for entry in read_all(folder)]
    if not names:
        raise NotFound("nothing runs here", hint="launcher up smollm2-135m")
    if len(names) > 1:
        raise UsageError(f"{len(names)} deployments are here: {', '.join(names)}", hint="launcher ps")
    return names[0]


def remove_record(folder: Path, name: str) -> None:
    """Remove the record; the log stays for `launcher logs`. Raises UsageError for what is no file."""
    for path in (progress_path(folder, name), gang_path(folder, name), state_path(folder, name)):
        try:
            path.unlink(missing_ok=True)
        except (IsADirectoryError, PermissionError) as error:
            raise UsageError(
                f"{path} cannot be removed: {error.strerror}", hint=f"rm -r {shlex.quote(str(path))}"
            ) from error
    _sync(folder)


@contextmanager
def hold_start(folder: Path, name: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Be the only launcher that starts `name`; call `on_wait` before waiting for another."""
    path = folder / f"{check_name(name)}.lock"
    make_private(folder)
    with exclusive(path, on_wait=on_wait):
        yield


@contextmanager
def hold_start_if_free(folder: Path, name: str) -> Iterator[bool]:
    """Yield whether no launcher is starting `name`; then none can inside the block."""
    make_private(folder)
    with exclusive_if_free(folder / f"{check_name(name)}.lock") as free:
        yield free


@contextmanager
def hold_ports(folder: Path) -> Iterator[None]:
    make_private(folder)
    with exclusive(folder / ".ports.lock"):  # while a port is chosen and recorded
        yield


def make_private(folder: Path) -> None:
    """Make the folder, for its owner alone. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(path: Path) -> Deployment | UnreadableRecord | None:
    try:
        content, _ = read_file(path, _MAX_RECORD_BYTES)
        deployment = parse_deployment(content.decode("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unreadable(path, f"it cannot be read: {error.strerror}")
    except ValueError as error:
        return _unreadable(path, str(error))
    if deployment.name != path.stem:
        return _unreadable(path, f"it describes a deployment called {deployment.name[:80]!r}")
    # Logs are shortened and moved, so a record does not say where they are.
    return replace(deployment, log_path=str(path.with_suffix(".log")))


def _unreadable(path: Path, problem: str) -> UnreadableRecord:
    return UnreadableRecord(name=path.stem, path=str(path), problem=problem)


def _sync(folder: Path) -> None:
    # A rename or removal survives a power cut only once its folder is on disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some filesystems refuse to sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
