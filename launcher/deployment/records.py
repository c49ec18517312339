"""What runs here: one state file per deployment, written whole or not at all, believed only after a look.

The folder holds, per deployment, NAME.json (0600), NAME.log with its predecessors, NAME.progress while it loads,
and NAME.lock, which whoever starts the deployment holds until it is ready. Files that cannot be read are reported as values, so
that one broken file hides nothing else.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from launcher.deployment.identity import Presence, ProcessId, find_presence
from launcher.deployment.install.systemd import installed_units, unit_name
from launcher.deployment.install.transient import is_kept
from launcher.deployment.record import (
    Deployment,
    Phase,
    UnreadableRecord,
    check_name,
    parse_deployment,
    record_json,
)
from launcher.errors import NotFound, TryAgain, UsageError
from launcher.system.locks import exclusive, exclusive_if_free

_RECORDS_BYTES = 256 << 10
"""What starting a deployment writes beside its log: its record twice (the new one before the old one goes), a claim,
progress, a line of history; a record of 60 devices has about 30 kB."""


class DeploymentState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    BACKOFF = "backoff"
    FAILED = "failed"
    GONE = "gone"
    OTHER_HOST = "other-host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`detail` explains what the state alone does not; None where there is nothing to explain."""

    state: DeploymentState
    detail: str | None = None


def log_path(folder: Path, name: str) -> Path:
    """Where the deployment's log is, also after it has failed and its state is gone."""
    return folder / f"{check_name(name)}.log"


def state_path(folder: Path, name: str) -> Path:
    return folder / f"{check_name(name)}.json"


def progress_path(folder: Path, name: str) -> Path:
    """How far a load is, written by its supervisor for whoever waits."""
    return folder / f"{check_name(name)}.progress"


def save_record(folder: Path, deployment: Deployment) -> None:
    """Write the state file: whole or not at all, on disk when this returns. Raises OSError."""
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
    """Records, claims and a log can be written there. Raises TryAgain naming the folder, before anything is touched."""
    try:
        make_private(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_RECORDS_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise records_unwritable(folder, error) from error


def records_unwritable(folder: Path, error: OSError | None = None) -> TryAgain:
    """Why no record can be kept there, in a sentence."""
    if error is None:
        what = f"the records of what runs could not be written to {folder}"
    elif error.errno in {errno.ENOSPC, errno.EDQUOT}:
        what = f"{folder}, which keeps the records of what runs, is full"
    else:
        what = f"the records of what runs cannot be written to {folder}: {error.strerror}"
    return TryAgain(what, hint=f"look at df -h {shlex.quote(str(folder))}, free some space, and try again")


def find_record(folder: Path, name: str) -> Deployment | UnreadableRecord | None:
    """The deployment of that name, as recorded; None when there is none. Raises UsageError for a bad name."""
    return _read(state_path(folder, name))


def read_all(folder: Path) -> tuple[Deployment | UnreadableRecord, ...]:
    """Every deployment recorded, by name; the broken ones too."""
    found = (_read(path) for path in sorted(folder.glob("*.json")))
    return tuple(entry for entry in found if entry is not None)


def require_record(folder: Path, name: str) -> Deployment:
    """The deployment of that name. Raises NotFound naming those there are, UsageError for a broken file."""
    entry = find_record(folder, name)
    if isinstance(entry, UnreadableRecord):
        raise UsageError(f"{entry.path}: {entry.problem}", hint=f"launcher stop {name}")
    if entry is None:
        if name in dict(installed_units()):
            raise NotFound(
                f"{name} is a unit of systemd, not a deployment of up",
                hint=f"launcher disable {name}, or systemctl --user status {unit_name(name)}",
            )
        known = ", ".join(other.name for other in read_all(folder))
        raise NotFound(
            f"no deployment is called {name}; there is {known or 'none'}",
            hint="launcher ps" if known else "launcher up MODEL",
        )
    return entry


def name_or_only(folder: Path, name: str | None) -> str:
    """`name`, or that of the only deployment. Raises NotFound when there is none, UsageError among several."""
    if name is not None:
        return name
    names = [entry.name for entry in read_all(folder)]
    if not names:
        raise NotFound("nothing runs here", hint="launcher up MODEL")
    if len(names) > 1:
        raise UsageError(f"{len(names)} deployments are here: {', '.join(names)}", hint="name one of them")
    return names[0]


def remove_record(folder: Path, name: str) -> None:
    """Forget the deployment; its log stays for `launcher logs`."""
    progress_path(folder, name).unlink(missing_ok=True)
    state_path(folder, name).unlink(missing_ok=True)
    _sync(folder)


def read_status(deployment: Deployment) -> Status:  # noqa: PLR0911  one line per thing it can be
    """What the deployment is right now, by the processes that were recorded."""
    process = deployment.process
    where = Presence.GONE if process is None else find_presence(process)
    if process is not None and where is Presence.OTHER_HOST:
        return Status(state=DeploymentState.OTHER_HOST, detail=f"pid {process.pid} on {process.hostname}")
    if deployment.phase is Phase.FAILED:
        return Status(
            state=DeploymentState.FAILED, detail=deployment.failure.sentence if deployment.failure else None
        )
    if deployment.supervisor is not None and not _lives(deployment.supervisor):
        return _unsupervised(deployment, where)
    if deployment.phase is Phase.BACKOFF:
        why = f": {deployment.failure.sentence}" if deployment.failure else ""
        return Status(state=DeploymentState.BACKOFF, detail=f"it is started again soon{why}")
    if deployment.phase is Phase.STARTING:
        return _starting_status(deployment, where)
    if where is not Presence.RUNNING:
        pid = "?" if process is None else process.pid
        return Status(state=DeploymentState.GONE, detail=f"llama-server (pid {pid}) ended")
    if deployment.phase is Phase.DEGRADED:
        return Status(state=DeploymentState.DEGRADED, detail="llama-server runs, and does not answer")
    stopping = deployment.phase is Phase.STOPPING
    return Status(state=DeploymentState.RUNNING, detail="it is being stopped" if stopping else None)


def _starting_status(deployment: Deployment, where: Presence) -> Status:
    """Not ready yet: by a launcher that waits for it, or by one that has gone."""
    name, process = deployment.name, deployment.process
    if where is Presence.RUNNING or process is None:
        again = process is None or deployment.restarts > 0  # nobody waits for it but its supervisor
        if _lives(deployment.starter) or (again and _lives(deployment.supervisor)):
            return Status(state=DeploymentState.STARTING)
        if where is Presence.RUNNING:
            detail = f"its launcher ended before it was ready; take it over with up, end it with stop {name}"
            return Status(state=DeploymentState.STARTING, detail=detail)
        return Status(state=DeploymentState.GONE, detail="its launcher ended before llama-server was started")
    return Status(
        state=DeploymentState.GONE, detail=f"llama-server (pid {process.pid}) ended before it was ready"
    )


def _unsupervised(deployment: Deployment, where: Presence) -> Status:
    """Its supervisor was killed. llama-server sees its pipe close and ends; on Linux the kernel ends it at once."""
    pid = None if deployment.supervisor is None else deployment.supervisor.pid
    gone = f"its supervisor (pid {pid}) was killed, and llama-server with it"
    if deployment.unit is not None and is_kept(deployment.unit):
        return Status(
            state=DeploymentState.BACKOFF, detail=f"{gone}; systemd starts it again ({deployment.unit})"
        )
    if where is Presence.RUNNING:
        left = f"its supervisor (pid {pid}) was killed; end it with stop {deployment.name}"
        return Status(state=DeploymentState.DEGRADED, detail=left)
    return Status(state=DeploymentState.GONE, detail=gone)


@contextmanager
def hold_start(folder: Path, name: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Be the only one who starts `name`; waits for another launcher that does, after calling `on_wait`."""
    path = folder / f"{check_name(name)}.lock"
    make_private(folder)
    with exclusive(path, on_wait=on_wait):
        yield


@contextmanager
def hold_start_if_free(folder: Path, name: str) -> Iterator[bool]:
    """Whether nobody is starting `name`; nobody else can inside the block when True."""
    make_private(folder)
    with exclusive_if_free(folder / f"{check_name(name)}.lock") as free:
        yield free


@contextmanager
def hold_ports(folder: Path) -> Iterator[None]:
    """Hold this while choosing a port and recording it: no two deployments get the same one."""
    make_private(folder)
    with exclusive(folder / ".ports.lock"):
        yield


def make_private(folder: Path) -> None:
    """The folder exists and only its owner can look inside. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lives(process: ProcessId | None) -> bool:
    return process is not None and find_presence(process) is Presence.RUNNING


def _read(path: Path) -> Deployment | UnreadableRecord | None:
    try:
        deployment = parse_deployment(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        return UnreadableRecord(
            name=path.stem, path=str(path), problem=f"it cannot be read: {error.strerror}"
        )
    except ValueError as error:
        return UnreadableRecord(name=path.stem, path=str(path), problem=str(error))
    if deployment.name != path.stem:
        return UnreadableRecord(
            name=path.stem, path=str(path), problem=f"it describes a deployment called {deployment.name!r}"
        )
    return deployment


def _sync(folder: Path) -> None:
    """A rename or removal survives a power cut only once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some filesystems refuse to sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
