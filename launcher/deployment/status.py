"""How a running deployment does right now: since when, how much memory, how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from launcher.deployment.process import read_activity
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import DeploymentState, Status, read_status
from launcher.engine.client import is_loaded, read_api_key, read_metrics
from launcher.errors import LauncherError

_HEALTH_S = 5.0
"""/health is answered by a thread of its own, also while a long prompt is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """`tokens_per_s` is llama-server's own gauge: generated since it was last asked; None where it does not say."""

    uptime_s: float | None = None
    resident_bytes: int | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """What a deployment is, by its record and by a look at it, and how it does."""

    deployment: Deployment
    status: Status
    vitals: Vitals


def ask_status(deployment: Deployment) -> StatusReport:
    """One that should run is asked whether it answers; whatever else can be found out."""
    status, server = read_status(deployment), deployment.process
    active = None if server is None else read_activity(server)
    if server is None or active is None:
        return StatusReport(deployment=deployment, status=status, vitals=Vitals())
    uptime, speed = None, None
    if status.state is DeploymentState.RUNNING and deployment.phase is Phase.READY:
        status = find_server_trouble(deployment) or status
    try:
        uptime = max(0.0, time.time() - psutil.Process(server.pid).create_time())
        if status.state is DeploymentState.RUNNING:
            told = read_metrics(deployment.url, api_key=read_api_key(deployment.api_key_file))
            speed = told.get("predicted_tokens_seconds")
    except (psutil.Error, LauncherError):
        pass  # it ended meanwhile, or was started without --metrics: unknown
    return StatusReport(
        deployment=deployment,
        status=status,
        vitals=Vitals(uptime_s=uptime, resident_bytes=active.resident_bytes, tokens_per_s=speed),
    )


def find_server_trouble(deployment: Deployment) -> Status | None:
    """What is wrong with a server that its supervisor found well when it last asked; None where nothing is."""
    pid = deployment.pid
    try:
        if pid is not None and psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            detail = f"llama-server (pid {pid}) is frozen (SIGSTOP); kill -CONT {pid} lets it go on"
            return Status(state=DeploymentState.DEGRADED, detail=detail)
    except psutil.Error:
        return None
    if is_loaded(deployment.url, _HEALTH_S):
        return None
    detail = f"llama-server runs, and does not answer within {_HEALTH_S:.0f} s"
    return Status(state=DeploymentState.DEGRADED, detail=detail)
