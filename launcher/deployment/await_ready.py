"""Wait in the launcher, by reading the record, until a supervisor has its server ready."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from launcher.deployment.identity import Presence, ProcessId, find_presence
from launcher.deployment.process import reap_process
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import (
    check_disk_space,
    find_record,
    progress_path,
    records_unwritable,
    state_path,
)
from launcher.deployment.supervisor.ready import LoadFailed, failure, naming_engine
from launcher.engine.log.cause import Cause, CauseKind
from launcher.errors import EngineFailed, TryAgain
from launcher.progress import OnProgress, Step
from launcher.system.json_object import parse_json
from launcher.system.small_files import read_small_text

_POLL_S = 0.02  # one stat of the record each


def await_ready(folder: Path, name: str, supervisor: ProcessId, on_progress: OnProgress) -> Deployment:
    """Return the record once the server is ready.

    Raises EngineFailed (LoadFailed with the cause) as soon as it cannot be, TryAgain if the disk is full.
    """
    path, progress = state_path(folder, name), progress_path(folder, name)
    seen: tuple[int, int] | None = None
    shown = ""
    while True:
        alive = (
            find_presence(supervisor) is Presence.RUNNING
        )  # before reading, so that its last write is read
        stamp = _stamp(path)
        if stamp != seen or not alive:
            seen, entry = stamp, find_record(folder, name)
            if not isinstance(entry, Deployment) or entry.phase is Phase.STOPPING:
                raise EngineFailed(f"{name} was stopped before it was ready", hint=f"launcher logs {name}")
            if not alive and entry.phase is Phase.STARTING:
                _raise_if_disk_full(folder, supervisor)
            if entry.phase is Phase.FAILED or not alive:
                raise explain_end(entry)
            if entry.phase is not Phase.STARTING:
                return entry
        with contextlib.suppress(OSError, ValueError, TypeError):
            text = read_small_text(progress)
            if text != shown:
                shown = text
                on_progress(Step(**parse_json(text)))
        time.sleep(_POLL_S)


def explain_end(entry: Deployment) -> EngineFailed:
    if entry.phase is Phase.FAILED and entry.failure is not None:
        return LoadFailed(entry.name, naming_engine(entry, entry.failure))
    if entry.supervisor is None:
        return failure(entry)  # the log tells
    sentence = f"its supervisor (pid {entry.supervisor.pid}) was killed, and llama-server with it"
    return LoadFailed(entry.name, Cause(kind=CauseKind.KILLED, sentence=sentence))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns  # every write makes a new file


def _raise_if_disk_full(folder: Path, supervisor: ProcessId) -> None:
    status = reap_process(supervisor)  # it ends with TryAgain's if it could not write its record
    check_disk_space(folder)  # under systemd there is no exit status for us
    if status == TryAgain.exit_code:
        raise records_unwritable(folder)
