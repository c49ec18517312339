"""Take a deployment down, so that nothing of it runs and nothing is recorded."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.deployment.identity import Presence, find_presence
from launcher.deployment.install import transient
from launcher.deployment.log_file import trim
from launcher.deployment.process import GRACE_S, reap_process, stop_process
from launcher.deployment.record import Deployment, Phase, check_name
from launcher.deployment.records import (
    find_record,
    hold_start_if_free,
    marker_of,
    read_all,
    remove_record,
    require_record,
    save_record,
    state_path,
)
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.supervisor.protect import sweep_groups
from launcher.errors import UsageError

_RECORD_POLL_S = 0.01
_PROCESS_POLL_S = 0.02

# For a launcher that was still starting the deployment to clean up after itself.
_HANDOVER_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDown:
    name: str
    was: DeploymentState  # before
    pid: int | None


def take_down(folder: Path, name: str, *, grace_s: float = GRACE_S) -> TakenDown:
    """End a deployment's processes and remove its record, whatever state both are in.

    Raises NotFound naming those there are, UsageError if it runs on another host, EngineFailed if a process
    cannot be ended.
    """
    check_name(name)
    entry = find_record(folder, name)
    if entry is None and not stop_process(None, marker=marker_of(folder, name), grace_s=grace_s):
        require_record(folder, name)
    if not isinstance(entry, Deployment):
        alive = stop_process(None, marker=marker_of(folder, name), grace_s=grace_s)
        remove_traces(folder, name, grace_s=grace_s)
        return TakenDown(name=name, was=DeploymentState.RUNNING if alive else DeploymentState.GONE, pid=None)
    status = read_status(entry)
    if status.state is DeploymentState.OTHER_HOST:
        raise UsageError(
            f"{name} runs on another host ({status.detail})",
            hint=f"stop it there; if that host is no more, remove {state_path(folder, name)}",
        )
    _end(folder, entry, grace_s)
    _forget(folder, entry)
    return TakenDown(name=name, was=status.state, pid=entry.pid)


def tidy(folder: Path) -> None:
    """Bound the logs, and remove the memory groups of supervisors that were killed."""
    sweep_groups()
    for entry in read_all(folder):
        if isinstance(entry, Deployment) and not entry.options.writes_log:
            trim(Path(entry.log_path))


def _end(folder: Path, entry: Deployment, grace_s: float) -> None:
    # The supervisor is asked, through systemd if that keeps it; force comes after `grace_s`.
    keeper = entry.supervisor
    asked = entry.unit is not None and transient.stop_unit(entry.unit, wait=False)
    if keeper is not None and find_presence(keeper) is Presence.RUNNING:
        if not asked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(keeper.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        try:
            while find_presence(keeper) is Presence.RUNNING and time.monotonic() < deadline:
                time.sleep(_PROCESS_POLL_S)
        finally:
            stop_process(entry.process, marker=marker_of(folder, entry.name), grace_s=0.0)
    else:
        with contextlib.suppress(OSError):  # a full disk is no reason to keep it running
            save_record(folder, replace(entry, phase=Phase.STOPPING))
        stop_process(entry.process, marker=marker_of(folder, entry.name), grace_s=grace_s)
    if keeper is not None:
        reap_process(keeper)
    if asked and entry.unit is not None:
        transient.stop_unit(entry.unit, wait=True)  # its name is free again


def remove_traces(folder: Path, name: str, *, grace_s: float = GRACE_S) -> None:
    entry = find_record(folder, name)
    if isinstance(entry, Deployment):
        _end(folder, entry, grace_s)
    stop_process(None, marker=marker_of(folder, name), grace_s=grace_s)
    remove_record(folder, name)


def _forget(folder: Path, deployment: Deployment) -> None:
    # A launcher that was starting it sees its process end and removes the record itself; only then is the
    # name free.
    deadline = time.monotonic() + _HANDOVER_S
    while _still_recorded(folder, deployment) and time.monotonic() < deadline:
        with hold_start_if_free(folder, deployment.name) as free:
            if free and _still_recorded(folder, deployment):
                remove_record(folder, deployment.name)
        time.sleep(_RECORD_POLL_S)


def _still_recorded(folder: Path, deployment: Deployment) -> bool:
    entry = find_record(folder, deployment.name)
    return isinstance(entry, Deployment) and entry.process == deployment.process
