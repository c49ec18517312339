"""Waiting until a deployment has produced a token, for as long as it gets on.

There is no limit in seconds: loading 500 GB may take half an hour. A load fails when its process ends, or
when it stalls: none of bytes read, bytes resident and CPU time has moved for a while.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from launcher.engine.client import first_token, is_loaded, read_api_key
from launcher.engine.diagnose import diagnose
from launcher.engine.identity import Presence, ProcessId, presence
from launcher.engine.log import tail
from launcher.engine.ports import listens
from launcher.engine.process import Activity, activity, reap
from launcher.engine.record import Deployment
from launcher.errors import EngineFailed, LauncherError
from launcher.progress import OnProgress, Step, silent
from launcher.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class StallLimits:
    """Seconds. `idle_s`: nothing moves at all. `busy_s`: only CPU time moves; software GPUs compile shaders
    for minutes before the first token (6 min measured), and ending a healthy load costs more than waiting."""

    idle_s: float = 120.0
    busy_s: float = 1800.0


_POLL_S = 0.025
_SLOW_POLL_S = 0.25
_SLOW_AFTER_S = 5.0
_SAMPLE_S = 0.25
_MOVED_BYTES = MIB
"""Less is noise: answering our own polls reads and allocates a little."""
_MOVED_CPU_S = 1.0
"""Less is noise: answering our own polls (4 a second) takes about 0.1 s of CPU in two minutes."""
_LAST_WORDS_S = 2.0
"""Between a closed connection and the process's end: the kernel closes sockets first."""


def wait_ready(
    deployment: Deployment, *, on_progress: OnProgress = silent, limits: StallLimits | None = None
) -> None:
    """Return when the deployment's model has produced a token.

    `on_progress` gets phase `load` (bytes of the model that are in) and then `token` (seconds). Raises
    EngineFailed with the cause in one sentence when it ends or stalls; ending the rest is the caller's.
    """
    if deployment.process is None:
        raise EngineFailed(f"{deployment.name} was never started", hint=f"launcher stop {deployment.name}")
    watch = _Watch(deployment, deployment.process, on_progress, limits or StallLimits())
    while not (is_loaded(deployment.url) and listens(deployment.process, deployment.port) is not False):
        watch.tick("load")
        watch.pause()
    _until_token(deployment, watch)


def failure(deployment: Deployment) -> EngineFailed:
    """Why the deployment's process ended, by its log and exit status."""
    exit_code = None if deployment.process is None else reap(deployment.process)
    cause = diagnose(tail_of(deployment), exit_code)
    logs = f"launcher logs {deployment.name}"
    return EngineFailed(
        f"{deployment.name}: {cause.sentence}",
        hint=logs if cause.remedy is None else f"{cause.remedy}; its log: {logs}",
    )


def tail_of(deployment: Deployment) -> str:
    """The end of its log."""
    return tail(Path(deployment.log_path))


def _until_token(deployment: Deployment, watch: _Watch) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            first_token(deployment.url, api_key=read_api_key(deployment.api_key_file))
        except BaseException as error:  # noqa: BLE001  raised again below, in the thread that waits
            failures.append(error)

    # a thread, because the request has no limit of its own and the process has to be watched meanwhile; a
    # daemon, because it ends with the server, and nothing may keep the launcher from ending after Ctrl-C
    asking = threading.Thread(target=ask, name="first-token", daemon=True)
    asking.start()
    while asking.is_alive():
        asking.join(_POLL_S)
        watch.tick("token")
    if not failures:
        return
    watch.last_words()
    [error] = failures
    if isinstance(error, LauncherError):
        raise EngineFailed(
            f"{deployment.name} loaded, but produced no token: {error.message}",
            hint=f"launcher logs {deployment.name}",
        ) from error
    raise error


class _Watch:
    """Looks at the process while somebody waits for it."""

    def __init__(
        self, deployment: Deployment, process: ProcessId, on_progress: OnProgress, limits: StallLimits
    ) -> None:
        self._deployment = deployment
        self._process = process
        self._on_progress = on_progress
        self._limits = limits
        self._began = self._sampled = self._moved = self._worked = time.monotonic()
        self._seen = Activity(read_bytes=None, resident_bytes=0, cpu_s=0.0)
        self._done = 0

    def tick(self, phase: str) -> None:
        """Raises EngineFailed when the process has ended or stalled; reports progress."""
        if presence(self._process) is not Presence.RUNNING:
            raise failure(self._deployment)
        now = time.monotonic()
        if now - self._sampled < min(_SAMPLE_S, self._limits.idle_s):
            return
        self._sampled = now
        self._sample(now)
        self._on_progress(self._step(phase, now))
        if now - max(self._moved, self._worked) > self._limits.idle_s:
            raise self._stalled("does nothing", self._limits.idle_s)
        if now - self._moved > self._limits.busy_s:
            raise self._stalled("computes without reading or allocating anything", self._limits.busy_s)

    def pause(self) -> None:
        """Between two looks: short at first, so that a small model loses nothing."""
        young = time.monotonic() - self._began < _SLOW_AFTER_S
        time.sleep(_POLL_S if young else _SLOW_POLL_S)

    def last_words(self) -> None:
        """Raises EngineFailed when the process is ending; its log says more than a lost connection."""
        deadline = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < deadline:
            if presence(self._process) is not Presence.RUNNING:
                raise failure(self._deployment)
            time.sleep(_POLL_S)

    def _sample(self, now: float) -> None:
        seen = activity(self._process)
        if seen is None:
            return
        done = max(seen.read_bytes or 0, seen.resident_bytes)
        if done >= self._done + _MOVED_BYTES:
            self._done, self._moved = done, now
        if seen.cpu_s >= self._seen.cpu_s + _MOVED_CPU_S:
            self._seen, self._worked = seen, now

    def _step(self, phase: str, now: float) -> Step:
        if phase == "load":
            total = self._deployment.model_bytes
            done = min(self._done, total)
            return Step(phase=phase, done=done, total=total, unit="bytes", text=self._deployment.model_id)
        return Step(phase=phase, done=int(now - self._began), total=None, unit="s", text="first token")

    def _stalled(self, what: str, limit_s: float) -> EngineFailed:
        name = self._deployment.name
        return EngineFailed(
            f"{name} stalled: for {limit_s:.0f} s llama-server {what}", hint=f"launcher logs {name}"
        )
