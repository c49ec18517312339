"""How a running deployment does right now: since when, how much memory, how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from launcher.engine.client import metrics, read_api_key
from launcher.engine.deployments import State, look
from launcher.engine.process import activity
from launcher.engine.record import Deployment
from launcher.errors import LauncherError


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """`tokens_per_s` is llama-server's own gauge: generated since it was last asked; None where it does not say."""

    uptime_s: float | None = None
    resident_bytes: int | None = None
    tokens_per_s: float | None = None


def vitals(deployment: Deployment) -> Vitals:
    """Whatever can be found out; empty for one that does not run."""
    server = deployment.process
    seen = None if server is None else activity(server)
    if server is None or seen is None:
        return Vitals()
    uptime, speed = None, None
    try:
        uptime = max(0.0, time.time() - psutil.Process(server.pid).create_time())
        if look(deployment).state is State.RUNNING:
            told = metrics(deployment.url, api_key=read_api_key(deployment.api_key_file))
            speed = told.get("predicted_tokens_seconds")
    except (psutil.Error, LauncherError):
        pass  # it ended meanwhile, or was started without --metrics: unknown
    return Vitals(uptime_s=uptime, resident_bytes=seen.resident_bytes, tokens_per_s=speed)
