"""Bring a deployment up, or find it running, and stay with it in the foreground.

A launcher or supervisor killed at any moment leaves nothing, or something that `ps` shows and `stop` ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.deployment.address import check_exposure, check_start, local_url
from launcher.deployment.await_ready import await_ready, explain_end
from launcher.deployment.identity import Presence, find_presence, identify
from launcher.deployment.kept_ports import choose_port, keep_port
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.ports import check_port
from launcher.deployment.process import GRACE_S
from launcher.deployment.record import Deployment, Phase, UnreadableRecord
from launcher.deployment.records import (
    check_disk_space,
    find_record,
    hold_ports,
    hold_start,
    log_path,
    now,
    read_all,
    save_record,
)
from launcher.deployment.seal import seal
from launcher.deployment.start_supervisor import start_supervisor
from launcher.deployment.status import DeploymentState, read_status
from launcher.deployment.supervisor.protect import sweep_groups
from launcher.deployment.supervisor.ready import StallLimits
from launcher.deployment.takedown import remove_traces, take_down
from launcher.engine.environment import why_dropped
from launcher.errors import UsageError
from launcher.plan.from_json import StoredPlan
from launcher.progress import OnProgress, Step, silent

_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A server to bring up."""

    name: str
    model_id: str
    model_path: Path
    model_bytes: int
    stored_plan: StoredPlan
    plan_hash: str  # tells whether a second `up` of the name asks for the same
    argv_for: Callable[[int], Sequence[str]]  # the whole command line, for a port
    env: Mapping[str, str]  # complete, without what must not reach llama-server (engine_env)
    env_dropped: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int | None = None  # None: the one it had last, else any free one
    api_key_file: Path | None = None
    engine_path: Path
    engine_sha256: str | None = None
    engine_commit: str | None = None
    cwd: Path = Path("/")  # for relative paths among the user's own flags; "/" pins no filesystem
    options: SupervisorOptions = field(default_factory=SupervisorOptions)  # without limits and `passed`


def bring_up(
    folder: Path,
    request: Request,
    *,
    on_progress: OnProgress = silent,
    limits: StallLimits | None = None,
) -> Deployment:
    """Return the deployment, ready: found running with the same plan, taken over, or started now.

    On any failure and on Ctrl-C nothing is left but the log. Raises UsageError (another plan runs under the
    name, port in use, exposed without a key), LoadFailed, TryAgain (the disk is full), OSError.
    """
    check_exposure(request.host, request.api_key_file)
    check_disk_space(folder)
    sweep_groups()

    def waiting() -> None:
        text = f"another launcher is starting {request.name}"
        on_progress(Step(phase="wait", done=0, total=None, unit="s", text=text))

    # Waits while another launcher starts the same name, and takes over if that dies.
    with hold_start(folder, request.name, on_wait=waiting):
        deployment = _find_running(folder, request)
        if deployment is not None and deployment.phase is not Phase.STARTING:
            return deployment
        try:
            supervisor = None if deployment is None else deployment.supervisor
            if supervisor is None:
                # Writes the first record; the supervisor writes from then on.
                claimed = _claim_name_and_port(folder, request, limits or StallLimits())
                supervisor = start_supervisor(folder, claimed, request.env, request.cwd)
            return await_ready(folder, request.name, supervisor, on_progress)
        except BaseException:
            remove_traces(folder, request.name)
            raise


def already_up(folder: Path, name: str, plan_hash: str, port: int | None) -> Deployment | None:
    """Return the deployment that runs under this name with this plan.

    Raises UsageError as `bring_up` would.
    """
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
    """Stay with a deployment until it is stopped. Raises EngineFailed with the cause if it ends by itself."""
    keeper = deployment.supervisor or deployment.process
    try:
        while keeper is not None and find_presence(keeper) is Presence.RUNNING:
            time.sleep(_POLL_S)
    except KeyboardInterrupt:  # ends the deployment
        take_down(folder, deployment.name, grace_s=grace_s)
        raise
    entry = find_record(folder, deployment.name)
    if not isinstance(entry, Deployment) or entry.supervisor != deployment.supervisor:
        return
    if entry.phase is not Phase.STOPPING:
        error = explain_end(entry)
        remove_traces(folder, deployment.name)
        raise error


def _find_running(folder: Path, request: Request) -> Deployment | None:
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
        remove_traces(folder, request.name)  # dead: the name is free again
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


def _claim_name_and_port(folder: Path, request: Request, limits: StallLimits) -> Deployment:
    with hold_ports(folder):
        others = [entry for entry in read_all(folder) if isinstance(entry, Deployment)]
        live = {
            entry.port: entry.name for entry in others if read_status(entry).state is not DeploymentState.GONE
        }
        if request.port is None:
            port = choose_port(folder, request.name, request.host, live)
        else:
            port = request.port
            if port in live:
                raise UsageError(
                    f"port {port} is in use by the deployment {live[port]}",
                    hint="leave --port out",
                )
            check_port(request.host, port)
        deployment = replace(_make_record(folder, request, port), options=_options(request, limits))
        check_start(deployment.argv)
        deployment = replace(deployment, seal=seal(folder, deployment))
        save_record(folder, deployment)
        keep_port(folder, request.name, port)
    return deployment


def _make_record(folder: Path, request: Request, port: int) -> Deployment:
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


def _options(request: Request, limits: StallLimits) -> SupervisorOptions:
    # What the rule would drop is there on purpose.
    passed = tuple(sorted(name for name, value in request.env.items() if why_dropped(name, value)))
    return replace(
        request.options, idle_s=limits.idle_s, busy_s=limits.busy_s, passed=passed, writes_log=True
    )
