"""Tell the state of a deployment, by its record and processes or by asking the server."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import psutil

from launcher.deployment.identity import Presence, ProcessId, find_presence, identify, is_frozen
from launcher.deployment.install.transient import is_kept
from launcher.deployment.process import process_tree, read_activity
from launcher.deployment.record import Deployment, Phase
from launcher.engine.key_file import read_api_key
from launcher.errors import LauncherError

# llama-server answers /health in a thread of its own, also while it computes a long prompt.
_HEALTH_S = 5.0


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
    state: DeploymentState
    detail: str | None = None  # words for what the state does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    uptime_s: float | None = None
    resident_bytes: int | None = None
    tokens_per_s: float | None = None  # llama-server's own gauge: since it was last asked
    idle_s: float | None = None  # since its last line in the log; 0 while it answers


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    deployment: Deployment
    status: Status
    vitals: Vitals


def with_its_server(deployment: Deployment) -> Deployment:
    """Return the deployment with the server that its supervisor runs now.

    The record names an earlier one when a full disk keeps its supervisor from writing.
    """
    supervisor, process = deployment.supervisor, deployment.process
    if supervisor is None or process is None or find_presence(process) is not Presence.GONE:
        return deployment
    servers = process_tree(supervisor)[1:]
    found = identify(servers[0].pid) if servers else None
    return deployment if found is None else replace(deployment, process=found)


def read_status(deployment: Deployment) -> Status:  # noqa: PLR0911  one line per state
    """Return the state by the recorded processes; the server is not asked."""
    deployment = with_its_server(deployment)
    process = deployment.process
    where = Presence.GONE if process is None else find_presence(process)
    if process is not None and where is Presence.OTHER_HOST:
        return Status(state=DeploymentState.OTHER_HOST, detail=f"pid {process.pid} on {process.hostname}")
    if deployment.phase is Phase.FAILED:
        failure = deployment.failure
        return Status(state=DeploymentState.FAILED, detail=failure.sentence if failure else None)
    if deployment.supervisor is not None and not _lives(deployment.supervisor):
        return _unsupervised(deployment, where)
    if deployment.phase is Phase.BACKOFF:
        why = f": {deployment.failure.sentence}" if deployment.failure else ""
        return Status(state=DeploymentState.BACKOFF, detail=f"it is started again soon{why}")
    if deployment.phase is Phase.STARTING:
        return _starting(deployment, where)
    if where is not Presence.RUNNING:
        pid = "?" if process is None else process.pid
        return Status(state=DeploymentState.GONE, detail=f"llama-server (pid {pid}) ended")
    if deployment.phase is Phase.DEGRADED:
        return Status(state=DeploymentState.DEGRADED, detail="llama-server runs, and does not answer")
    stopping = deployment.phase is Phase.STOPPING
    return Status(state=DeploymentState.RUNNING, detail="it is being stopped" if stopping else None)


def ask_status(deployment: Deployment) -> StatusReport:
    """Return state and vitals; a server that should run is asked."""
    deployment = with_its_server(deployment)
    status, server = read_status(deployment), deployment.process
    active = None if server is None else read_activity(server)
    if server is None or active is None:
        return StatusReport(deployment=deployment, status=status, vitals=Vitals())
    uptime, speed, idle = None, None, None
    if status.state is DeploymentState.RUNNING and deployment.phase is Phase.READY:
        status = find_server_trouble(deployment) or status
    try:
        uptime = max(0.0, time.time() - psutil.Process(server.pid).create_time())
        if status.state is DeploymentState.RUNNING and deployment.options.epoch is None:
            from launcher.engine.client import read_metrics  # noqa: PLC0415  an HTTP client takes 20 ms

            gauges = read_metrics(deployment.url, api_key=read_api_key(deployment.api_key_file))
            speed = gauges.get("predicted_tokens_seconds")
            idle = 0.0 if gauges.get("requests_processing") else _silent_s(Path(deployment.log_path))
    except (psutil.Error, LauncherError):
        pass  # it ended meanwhile, or was started without --metrics: unknown
    return StatusReport(
        deployment=deployment,
        status=status,
        vitals=Vitals(uptime_s=uptime, resident_bytes=active.resident_bytes, tokens_per_s=speed, idle_s=idle),
    )


def _silent_s(log: Path) -> float | None:
    # llama-server logs the end of every answer, and nothing when it is asked how it is
    try:
        return max(0.0, time.time() - log.stat().st_mtime)
    except OSError:
        return None


def find_server_trouble(deployment: Deployment) -> Status | None:
    """Return what is wrong with a server that was well when its supervisor last asked."""
    pid = deployment.pid
    frozen = False if pid is None else is_frozen(pid)
    if frozen is None:
        return None  # it ended meanwhile
    if frozen:
        detail = f"llama-server (pid {pid}) is frozen (SIGSTOP); kill -CONT {pid} lets it go on"
        return Status(state=DeploymentState.DEGRADED, detail=detail)
    from launcher.engine.client import is_loaded  # noqa: PLC0415  as above

    if deployment.options.epoch is not None or is_loaded(deployment.url, _HEALTH_S):
        return None  # a rank speaks no HTTP, and with its head alone
    detail = f"llama-server runs, and does not answer within {_HEALTH_S:.0f} s"
    return Status(state=DeploymentState.DEGRADED, detail=detail)


def _starting(deployment: Deployment, where: Presence) -> Status:
    name, process = deployment.name, deployment.process
    if where is not Presence.RUNNING and process is not None:
        detail = f"llama-server (pid {process.pid}) ended before it was ready"
        return Status(state=DeploymentState.GONE, detail=detail)
    by_supervisor = process is None or deployment.restarts > 0  # no launcher waits for it
    if _lives(deployment.starter) or (by_supervisor and _lives(deployment.supervisor)):
        return Status(state=DeploymentState.STARTING)
    if where is Presence.RUNNING:
        detail = f"its launcher ended before it was ready; take it over with up, end it with stop {name}"
        return Status(state=DeploymentState.STARTING, detail=detail)
    return Status(state=DeploymentState.GONE, detail="its launcher ended before llama-server was started")


def _unsupervised(deployment: Deployment, where: Presence) -> Status:
    # Its supervisor was killed: llama-server sees its pipe close and ends; on Linux the kernel ends it at
    # once.
    pid = None if deployment.supervisor is None else deployment.supervisor.pid
    gone = f"its supervisor (pid {pid}) was killed, and llama-server with it"
    if deployment.unit is not None and is_kept(deployment.unit):
        detail = f"{gone}; systemd starts it again ({deployment.unit})"
        return Status(state=DeploymentState.BACKOFF, detail=detail)
    if where is Presence.RUNNING:
        detail = f"its supervisor (pid {pid}) was killed; end it with stop {deployment.name}"
        return Status(state=DeploymentState.DEGRADED, detail=detail)
    return Status(state=DeploymentState.GONE, detail=gone)


def _lives(process: ProcessId | None) -> bool:
    return process is not None and find_presence(process) is Presence.RUNNING
