"""Bring a deployment up, stay with it, take it down: the order in which record, process and port are touched.

The record is written before the process starts and the process carries its path (process.MARKER), so a
launcher killed at any moment leaves either nothing, or something `ps` shows and `stop` ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.engine.address import check_exposure, local_url
from launcher.engine.deployments import (
    State,
    claiming,
    find,
    log_path,
    look,
    now,
    read_all,
    remove,
    require,
    save,
    starting,
    starting_if_free,
    state_path,
)
from launcher.engine.identity import Presence, identify, presence
from launcher.engine.log import trim
from launcher.engine.ports import check_port, free_port
from launcher.engine.process import GRACE_S, start, stop
from launcher.engine.ready import StallLimits, failure, wait_ready
from launcher.engine.record import Deployment, Phase, Unreadable, check_name
from launcher.errors import UsageError
from launcher.progress import OnProgress, Step, silent

_LOOK_S = 0.1
_HANDOVER_S = 5.0
"""How long `take_down` leaves a launcher that was still starting the deployment to clean up after itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to bring up.

    `port` None means any free one; `argv_for(port)` is the whole command line. `env` is complete and already
    without what must not reach llama-server (process.engine_env), `env_dropped` names what went. `plan_hash`
    is what a second `up` of the name is compared by. `cwd` is where relative paths among the user's own flags
    are looked for; "/" pins no filesystem.
    """

    name: str
    model_id: str
    model_path: Path
    model_bytes: int
    plan: Mapping[str, Any]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What `take_down` found: the state before, and the pid where one was recorded."""

    name: str
    was: State
    pid: int | None


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
    UsageError (another plan runs under the name, port in use, exposed without a key), EngineFailed, OSError.
    """
    check_exposure(request.host, request.api_key_file)

    def waiting() -> None:
        text = f"another launcher is starting {request.name}"
        on_progress(Step(phase="wait", done=0, total=None, unit="s", text=text))

    with starting(folder, request.name, on_wait=waiting):
        deployment = _already_there(folder, request)
        if deployment is not None and deployment.phase is Phase.READY:
            return deployment
        try:
            if deployment is None:
                deployment = _started(folder, _claimed(folder, request), request)
            else:
                deployment = replace(deployment, starter=identify(os.getpid()))
                save(folder, deployment)
            wait_ready(deployment, on_progress=on_progress, limits=limits)
            deployment = replace(deployment, phase=Phase.READY)
            save(folder, deployment)
        except BaseException:
            _undo(folder, request.name)
            raise
        return deployment


def already_up(folder: Path, name: str, plan_hash: str, port: int | None) -> Deployment | None:
    """The deployment that runs under this name with this very plan, so that nothing has to be planned again;
    None when there is none. Raises UsageError as `bring_up` would."""
    entry = find(folder, name)
    if not isinstance(entry, Deployment) or entry.phase is not Phase.READY:
        return None
    if look(entry).state is not State.RUNNING:
        return None
    _refuse_another(entry, plan_hash, port)
    return entry


def attend(folder: Path, deployment: Deployment, *, grace_s: float = GRACE_S) -> None:
    """Stay with a deployment in the foreground. Returns when `launcher stop` has ended it; on
    KeyboardInterrupt (see process.termination_interrupts) ends it and raises that. Raises EngineFailed with
    the cause when it ends by itself."""
    try:
        while deployment.process is not None and presence(deployment.process) is Presence.RUNNING:
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        take_down(folder, deployment.name, grace_s=grace_s)
        raise
    if _still_recorded(folder, deployment, but_not=Phase.STOPPING):
        why = failure(deployment)
        _undo(folder, deployment.name)
        raise why


def take_down(folder: Path, name: str, *, grace_s: float = GRACE_S) -> Ended:
    """End a deployment's whole process tree and forget it; also one that is gone, half started, or whose
    record is broken.

    Raises NotFound (naming those there are), UsageError when it runs on another host, EngineFailed when the
    process cannot be ended.
    """
    check_name(name)
    entry = find(folder, name)
    if entry is None and not stop(None, marker=_marker(folder, name), grace_s=grace_s):
        require(folder, name)
    if not isinstance(entry, Deployment):
        _undo(folder, name, grace_s=grace_s)
        return Ended(name=name, was=State.GONE, pid=None)
    status = look(entry)
    if status.state is State.OTHER_HOST:
        raise UsageError(
            f"{name} runs on another host ({status.detail})",
            hint=f"stop it there; if that host is no more, remove {state_path(folder, name)}",
        )
    with contextlib.suppress(OSError):  # a full disk is no reason to keep it running
        save(folder, replace(entry, phase=Phase.STOPPING))
    stop(entry.process, marker=_marker(folder, name), grace_s=grace_s)
    _forget(folder, entry)
    return Ended(name=name, was=status.state, pid=entry.pid)


def tidy(folder: Path) -> None:
    """Bound the logs of what runs (log.trim); for commands that touch the deployments anyway."""
    for entry in read_all(folder):
        if isinstance(entry, Deployment):
            trim(Path(entry.log_path))


def _marker(folder: Path, name: str) -> str:
    """What the processes of a deployment carry: it is known even when the record is broken."""
    return str(state_path(folder, name).absolute())


def _already_there(folder: Path, request: Request) -> Deployment | None:
    """The deployment to keep; None when the name is free, dead remains of an earlier one cleared away."""
    entry = find(folder, request.name)
    if isinstance(entry, Unreadable):
        raise UsageError(
            f"the record of {request.name} cannot be used: {entry.problem}",
            hint=f"launcher stop {request.name}",
        )
    if entry is None:
        return None
    status = look(entry)
    if status.state is State.GONE or (
        status.state is State.RUNNING and entry.phase is Phase.STOPPING  # finish what a stop has begun
    ):
        _undo(folder, request.name)
        return None
    if status.state is State.OTHER_HOST:
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


def _claimed(folder: Path, request: Request) -> Deployment:
    """The record of a deployment that is about to start: its name and its port are taken from here on."""
    with claiming(folder):
        others = [entry for entry in read_all(folder) if isinstance(entry, Deployment)]
        live = {entry.port: entry.name for entry in others if look(entry).state is not State.GONE}
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
        deployment = _recorded(folder, request, port)
        save(folder, deployment)
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
        plan=request.plan,
        plan_hash=request.plan_hash,
        log_path=str(log_path(folder, request.name)),
        engine_path=str(request.engine_path),
        engine_sha256=request.engine_sha256,
        engine_commit=request.engine_commit,
        api_key_file=None if request.api_key_file is None else str(request.api_key_file),
        started_at=now(),
    )


def _started(folder: Path, deployment: Deployment, request: Request) -> Deployment:
    process = start(
        deployment.argv,
        request.env,
        Path(deployment.log_path),
        marker=_marker(folder, deployment.name),
        cwd=request.cwd,
    )
    deployment = replace(deployment, process=process)
    save(folder, deployment)
    return deployment


def _undo(folder: Path, name: str, *, grace_s: float = GRACE_S) -> None:
    """Nothing runs and nothing is recorded afterwards."""
    entry = find(folder, name)
    process = entry.process if isinstance(entry, Deployment) else None
    stop(process, marker=_marker(folder, name), grace_s=grace_s)
    remove(folder, name)


def _forget(folder: Path, deployment: Deployment) -> None:
    """Remove the record of a deployment that was ended. A launcher that was starting it sees its process end
    and removes the record itself; only then may the name be taken again."""
    deadline = time.monotonic() + _HANDOVER_S
    while _still_recorded(folder, deployment) and time.monotonic() < deadline:
        with starting_if_free(folder, deployment.name) as free:
            if free and _still_recorded(folder, deployment):
                remove(folder, deployment.name)
        time.sleep(_LOOK_S / 10)


def _still_recorded(folder: Path, deployment: Deployment, *, but_not: Phase | None = None) -> bool:
    entry = find(folder, deployment.name)
    return (
        isinstance(entry, Deployment) and entry.process == deployment.process and entry.phase is not but_not
    )
