"""Bring a deployment up, stay with it, take it down: the order in which record, process and port are touched.

The launcher claims name and port by writing the record, starts the deployment's supervisor (`supervisor`), and
from then on only reads: the supervisor is the one who writes. Every process of a deployment carries the record's
path (process.MARKER), so a launcher or supervisor killed at any moment leaves either nothing, or something `ps`
shows and `stop` ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher.deployment.address import check_exposure, local_url
from launcher.deployment.identity import Presence, ProcessId, find_presence, identify
from launcher.deployment.install import transient
from launcher.deployment.install.systemd import unit_name
from launcher.deployment.log_file import open_log
from launcher.deployment.options import SupervisorOptions, supervisor_command
from launcher.deployment.ports import check_port, free_port
from launcher.deployment.process import GRACE_S, MARKER, cannot_run, reap_process, start_process
from launcher.deployment.record import Deployment, Phase, UnreadableRecord
from launcher.deployment.records import (
    check_disk_space,
    find_record,
    hold_ports,
    hold_start,
    log_path,
    now,
    progress_path,
    read_all,
    records_unwritable,
    save_record,
    state_path,
)
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.supervisor.protect import sweep_groups
from launcher.deployment.supervisor.ready import LoadFailed, StallLimits, failure
from launcher.deployment.takedown import marker_of, remove_traces, take_down
from launcher.engine.environment import DROPPED
from launcher.engine.flags.taskset import split_taskset
from launcher.engine.log.cause import Cause, CauseKind
from launcher.errors import EngineFailed, TryAgain, UsageError
from launcher.plan.from_json import StoredPlan
from launcher.progress import OnProgress, Step, silent

_LOOK_S = 0.1
_WAIT_S = 0.02
"""Between two looks at the record while it starts: one stat each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to bring up.

    `port` None means any free one; `argv_for(port)` is the whole command line. `env` is complete and already
    without what must not reach llama-server (process.engine_env), `env_dropped` names what went. `plan_hash`
    is what a second `up` of the name is compared by. `cwd` is where relative paths among the user's own flags
    are looked for; "/" pins no filesystem. `notes` are further Options.
    """

    name: str
    model_id: str
    model_path: Path
    model_bytes: int
    stored_plan: StoredPlan
    plan_hash: str
    argv_for: Callable[[int], Sequence[str]]
    env: Mapping[str, str]
    env_dropped: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int | None = None
    api_key_file: Path | None = None
    engine_path: Path
    engine_sha256: str | None = None
    engine_commit: str | None = None
    cwd: Path = Path("/")
    keep_up: bool = False
    canary: bool = False
    memory_bytes: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


def bring_up(
    folder: Path,
    request: Request,
    *,
    on_progress: OnProgress = silent,
    limits: StallLimits | None = None,
) -> Deployment:
    """The deployment, ready: found running with the same plan, taken over from a launcher that died while
    starting it, or started now. While another launcher starts the same name, this waits for it.

    On any failure and on Ctrl-C the process tree is ended and the record removed; the log stays. Raises
    UsageError (another plan runs under the name, port in use, exposed without a key), LoadFailed, TryAgain (the folder
    is full), OSError.
    """
    check_exposure(request.host, request.api_key_file)
    check_disk_space(folder)
    sweep_groups()

    def waiting() -> None:
        text = f"another launcher is starting {request.name}"
        on_progress(Step(phase="wait", done=0, total=None, unit="s", text=text))

    with hold_start(folder, request.name, on_wait=waiting):
        deployment = _already_there(folder, request)
        if deployment is not None and deployment.phase is not Phase.STARTING:
            return deployment
        try:
            supervisor = None if deployment is None else deployment.supervisor
            if supervisor is None:
                supervisor = _started(folder, _claimed(folder, request, limits or StallLimits()), request)
            return _until_ready(folder, request.name, supervisor, on_progress)
        except BaseException:
            remove_traces(folder, request.name)
            raise


def already_up(folder: Path, name: str, plan_hash: str, port: int | None) -> Deployment | None:
    """The deployment that runs under this name with this very plan, so that nothing has to be planned again;
    None when there is none. Raises UsageError as `bring_up` would."""
    entry = find_record(folder, name)
    if not isinstance(entry, Deployment) or entry.phase in {Phase.STARTING, Phase.STOPPING}:
        return None
    if read_status(entry).state not in {
        DeploymentState.RUNNING,
        DeploymentState.DEGRADED,
        DeploymentState.BACKOFF,
    }:
        return None
    _refuse_another(entry, plan_hash, port)
    return entry


def attend(folder: Path, deployment: Deployment, *, grace_s: float = GRACE_S) -> None:
    """Stay with a deployment in the foreground. Returns when `launcher stop` has ended it; on
    KeyboardInterrupt (see process.termination_interrupts) ends it and raises that. Raises EngineFailed with
    the cause when it ends by itself."""
    keeper = deployment.supervisor or deployment.process
    try:
        while keeper is not None and find_presence(keeper) is Presence.RUNNING:
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        take_down(folder, deployment.name, grace_s=grace_s)
        raise
    entry = find_record(folder, deployment.name)
    if not isinstance(entry, Deployment) or entry.supervisor != deployment.supervisor:
        return
    if entry.phase is not Phase.STOPPING:
        why = _failed(entry)
        remove_traces(folder, deployment.name)
        raise why


def _already_there(folder: Path, request: Request) -> Deployment | None:
    """The deployment to keep; None when the name is free, dead remains of an earlier one cleared away."""
    entry = find_record(folder, request.name)
    if isinstance(entry, UnreadableRecord):
        raise UsageError(
            f"the record of {request.name} cannot be used: {entry.problem}",
            hint=f"launcher stop {request.name}",
        )
    if entry is None:
        return None
    status = read_status(entry)
    if status.state in {DeploymentState.GONE, DeploymentState.FAILED} or (
        status.state is DeploymentState.RUNNING
        and entry.phase is Phase.STOPPING  # finish what a stop has begun
    ):
        remove_traces(folder, request.name)
        return None
    if status.state is DeploymentState.OTHER_HOST:
        raise UsageError(
            f"{request.name} runs on another host ({status.detail})", hint="choose another --name"
        )
    _refuse_another(entry, request.plan_hash, request.port)
    return entry


def _refuse_another(entry: Deployment, plan_hash: str, port: int | None) -> None:
    if entry.plan_hash != plan_hash or port not in {None, entry.port}:
        raise UsageError(
            f"{entry.name} runs already, with another plan (pid {entry.pid}, port {entry.port})",
            hint=f"launcher stop {entry.name}",
        )


def _claimed(folder: Path, request: Request, limits: StallLimits) -> Deployment:
    """The record of a deployment that is about to start: its name and its port are taken from here on."""
    with hold_ports(folder):
        others = [entry for entry in read_all(folder) if isinstance(entry, Deployment)]
        live = {
            entry.port: entry.name for entry in others if read_status(entry).state is not DeploymentState.GONE
        }
        if request.port is None:
            port = free_port(request.host, live)
        else:
            port = request.port
            if port in live:
                raise UsageError(
                    f"port {port} is in use by the deployment {live[port]}",
                    hint="choose another --port, or leave it out for a free one",
                )
            check_port(request.host, port)
        deployment = replace(_recorded(folder, request, port), options=_options(request, limits))
        save_record(folder, deployment)
    return deployment


def _recorded(folder: Path, request: Request, port: int) -> Deployment:
    return Deployment(
        name=request.name,
        model_id=request.model_id,
        url=local_url(request.host, port),
        host=request.host,
        port=port,
        process=None,
        starter=identify(os.getpid()),
        phase=Phase.STARTING,
        model_path=str(request.model_path),
        model_bytes=request.model_bytes,
        argv=tuple(request.argv_for(port)),
        env_dropped=request.env_dropped,
        stored_plan=request.stored_plan,
        plan_hash=request.plan_hash,
        log_path=str(log_path(folder, request.name)),
        engine_path=str(request.engine_path),
        engine_sha256=request.engine_sha256,
        engine_commit=request.engine_commit,
        api_key_file=None if request.api_key_file is None else str(request.api_key_file),
        started_at=now(),
    )


def _options(request: Request, limits: StallLimits) -> dict[str, Any]:
    """What its supervisor is to do, as the record holds it."""
    return asdict(
        SupervisorOptions(
            keep_up=request.keep_up,
            canary=request.canary,
            idle_s=limits.idle_s,
            busy_s=limits.busy_s,
            memory_bytes=request.memory_bytes,
            passed=tuple(sorted(name for name in request.env if name.startswith(DROPPED))),
            **request.notes,
        )
    )


def _started(folder: Path, deployment: Deployment, request: Request) -> ProcessId:
    """The supervisor, which starts llama-server. A program that is not there is said at once."""
    _, (program, *_) = split_taskset(deployment.argv)
    for usable, error in ((os.F_OK, FileNotFoundError()), (os.X_OK, PermissionError())):
        if not os.access(program, usable):
            raise cannot_run(program, error)
    if request.keep_up and transient.is_available(request.env):
        with contextlib.suppress(
            EngineFailed
        ):  # an older systemd, a unit of that name: as where there is none
            return _kept_by_systemd(folder, deployment, request)
        save_record(folder, deployment)
    return start_process(
        supervisor_command(state_path(folder, deployment.name).absolute()),
        request.env,
        Path(deployment.log_path),
        marker=marker_of(folder, deployment.name),
        cwd=request.cwd,
    )


def _kept_by_systemd(folder: Path, deployment: Deployment, request: Request) -> ProcessId:
    """The supervisor as a unit; the record names it first, so that `stop` finds it whatever happens to us. Raises
    EngineFailed."""
    unit = unit_name(deployment.name)
    save_record(folder, replace(deployment, unit=unit))
    log = Path(deployment.log_path)
    os.close(open_log(log))
    return transient.start_unit(
        transient.Service(
            unit=unit,
            what=deployment.model_id,
            argv=supervisor_command(state_path(folder, deployment.name).absolute()),
            env={**request.env, MARKER: marker_of(folder, deployment.name)},
            log=log.absolute(),
            cwd=request.cwd,
            memory_bytes=request.memory_bytes,
        )
    )


def _until_ready(folder: Path, name: str, supervisor: ProcessId, on_progress: OnProgress) -> Deployment:
    """The record once its supervisor says it is ready. Raises LoadFailed as soon as it will not be."""
    path, progress = state_path(folder, name), progress_path(folder, name)
    seen: tuple[int, int] | None = None
    shown = ""
    while True:
        alive = (
            find_presence(supervisor) is Presence.RUNNING
        )  # asked before reading, so that its last word is read
        stamp = _stamp(path)
        if stamp != seen or not alive:
            seen, entry = stamp, find_record(folder, name)
            if not isinstance(entry, Deployment) or entry.phase is Phase.STOPPING:
                raise EngineFailed(f"{name} was stopped before it was ready", hint=f"launcher logs {name}")
            if not alive and entry.phase is Phase.STARTING:
                _look_for_full_disk(folder, supervisor)
            if entry.phase is Phase.FAILED or not alive:
                raise _failed(entry)
            if entry.phase is not Phase.STARTING:
                return entry
        with contextlib.suppress(OSError, ValueError, TypeError):
            text = progress.read_text(encoding="utf-8")
            if text != shown:
                shown = text
                on_progress(Step(**json.loads(text)))
        time.sleep(_WAIT_S)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes with every write: each makes a new file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _look_for_full_disk(folder: Path, supervisor: ProcessId) -> None:
    """A supervisor that could not write its record ended without a word in it. Raises TryAgain where that was it: by
    its exit status, or, where systemd has that, by what the disk says."""
    status = reap_process(supervisor)
    check_disk_space(folder)
    if status == TryAgain.exit_code:
        raise records_unwritable(folder)


def _failed(entry: Deployment) -> EngineFailed:
    """What its supervisor said of its end; without a word of it, what the log tells."""
    if entry.phase is Phase.FAILED and entry.failure is not None:
        return LoadFailed(entry.name, entry.failure)
    if entry.supervisor is None:
        return failure(entry)
    sentence = f"its supervisor (pid {entry.supervisor.pid}) was killed, and llama-server with it"
    return LoadFailed(entry.name, Cause(kind=CauseKind.KILLED, sentence=sentence))
