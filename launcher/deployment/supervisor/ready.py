"""Waiting until a deployment has produced a token, for as long as it gets on.

There is no limit in seconds: loading 500 GB may take half an hour. A load fails when its process ends, or
when it stalls: none of what llama-server says of itself, bytes read, bytes resident, memory in use on its GPUs and CPU
time has moved for a while. How far it is, is the furthest of the first four: a warm mmap moves only the resident size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.deployment.identity import Presence, ProcessId, find_presence
from launcher.deployment.log_file import tail
from launcher.deployment.ports import listens
from launcher.deployment.process import Activity, read_activity, reap_process
from launcher.deployment.record import Deployment
from launcher.engine.client import fill_context, generate_token, is_loaded, read_api_key, read_props
from launcher.engine.log.cause import Cause, CauseKind
from launcher.engine.log.diagnose import diagnose
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
_SURE_AFTER_S = 3.0
_LAST_WORDS_S = 2.0
"""Between a closed connection and the process's end: the kernel closes sockets first."""


class LoadFailed(EngineFailed):
    """A deployment that did not become ready, or did not stay so; `cause` is what is known of why."""

    def __init__(self, name: str, cause: Cause) -> None:
        logs = f"launcher logs {name}"
        colon = "" if cause.kind in {CauseKind.STALLED, CauseKind.NO_ANSWER} else ":"
        super().__init__(
            f"{name}{colon} {cause.sentence}",
            hint=logs if cause.remedy is None else f"{cause.remedy}; its log: {logs}",
        )
        self.cause = cause


def failure(deployment: Deployment) -> LoadFailed:
    """Why the deployment's process ended, by its log and exit status."""
    exit_code = None if deployment.process is None else reap_process(deployment.process)
    return LoadFailed(deployment.name, diagnose(tail_of(deployment), exit_code))


def wait_ready(
    deployment: Deployment,
    *,
    on_progress: OnProgress = silent,
    limits: StallLimits | None = None,
    told: Callable[[], float | None] = lambda: None,
    taken: Callable[[], int] = lambda: 0,
    ended: Callable[[Deployment], EngineFailed] = failure,
    canary: bool = False,
) -> None:
    """Return when the deployment's model has produced a token, and with `canary` has also read a prompt that fills
    its context: memory that was not counted runs out there first.

    `on_progress` gets phase `load` (bytes of the model that are in), `token` and `canary` (seconds). `told` is how
    much of the model llama-server says it has loaded, 0 to 1, `taken` the bytes its GPUs' drivers say are in use since.
    Raises what `ended` makes of a process that is gone,
    LoadFailed when it stalls or answers nothing; ending the rest is the caller's.
    """
    if deployment.process is None:
        raise EngineFailed(f"{deployment.name} was never started", hint=f"launcher stop {deployment.name}")
    watch = _Watch(deployment, deployment.process, on_progress, limits or StallLimits(), ended)
    watch.told, watch.taken = told, taken
    while not (is_loaded(deployment.url) and listens(deployment.process, deployment.port) is not False):
        watch.tick("load")
        watch.pause()
    key = read_api_key(deployment.api_key_file)
    _until_done(lambda: generate_token(deployment.url, api_key=key), "token", deployment, watch)
    if canary:
        _until_done(lambda: _fill(deployment.url, key), "canary", deployment, watch)


def _fill(url: str, api_key: str | None) -> None:
    n_ctx = read_props(url, api_key=api_key).n_ctx
    if n_ctx is not None:
        fill_context(url, n_ctx, api_key=api_key)


def tail_of(deployment: Deployment) -> str:
    """The end of its log."""
    return tail(Path(deployment.log_path))


def _until_done(ask: Callable[[], None], phase: str, deployment: Deployment, watch: _Watch) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            ask()
        except BaseException as error:  # noqa: BLE001  raised again below, in the thread that waits
            failures.append(error)

    # a thread, because the request has no limit of its own and the process has to be watched meanwhile; a
    # daemon, because it ends with the server, and nothing may keep the launcher from ending after Ctrl-C
    asking = threading.Thread(target=run, name=phase, daemon=True)
    asking.start()
    while asking.is_alive():
        asking.join(_POLL_S)
        watch.tick(phase)
    if not failures:
        return
    watch.last_words()
    [error] = failures
    if isinstance(error, LauncherError):
        what = (
            "loaded, but produced no token"
            if phase == "token"
            else "failed at a prompt that fills its context"
        )
        cause = Cause(kind=CauseKind.NO_ANSWER, sentence=f"{what}: {error.message}")
        raise LoadFailed(deployment.name, cause) from error
    raise error


class _Watch:
    """Looks at the process while somebody waits for it."""

    def __init__(
        self,
        deployment: Deployment,
        process: ProcessId,
        on_progress: OnProgress,
        limits: StallLimits,
        ended: Callable[[Deployment], EngineFailed],
    ) -> None:
        self._deployment = deployment
        self._process = process
        self._on_progress = on_progress
        self._limits = limits
        self.told: Callable[[], float | None] = lambda: None
        self.taken: Callable[[], int] = lambda: 0
        self._ended = ended
        self._began = self._sampled = self._moved = self._worked = time.monotonic()
        self._seen = Activity(read_bytes=None, resident_bytes=0, cpu_s=0.0)
        self._done = 0

    def tick(self, phase: str) -> None:
        """Raises EngineFailed when the process has ended or stalled; reports progress."""
        if find_presence(self._process) is not Presence.RUNNING:
            raise self._ended(self._deployment)
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
            if find_presence(self._process) is not Presence.RUNNING:
                raise self._ended(self._deployment)
            time.sleep(_POLL_S)

    def _sample(self, now: float) -> None:
        seen = read_activity(self._process)
        if seen is None:
            return
        said = int((self.told() or 0.0) * self._deployment.model_bytes)
        done = max(seen.read_bytes or 0, seen.resident_bytes, said, self.taken())
        if done >= self._done + _MOVED_BYTES:
            self._done, self._moved = done, now
        if seen.cpu_s >= self._seen.cpu_s + _MOVED_CPU_S:
            self._seen, self._worked = seen, now

    def _step(self, phase: str, now: float) -> Step:
        if phase == "load":
            total = self._deployment.model_bytes
            done = min(self._done, total)
            text = self._deployment.model_id + remaining(done, total, now - self._began)
            return Step(phase=phase, done=done, total=total, unit="bytes", text=text)
        text = "first token" if phase == "token" else "a prompt that fills the context"
        return Step(phase=phase, done=int(now - self._began), total=None, unit="s", text=text)

    def _stalled(self, what: str, limit_s: float) -> LoadFailed:
        sentence = f"stalled: for {limit_s:.0f} s llama-server {what}"
        return LoadFailed(self._deployment.name, Cause(kind=CauseKind.STALLED, sentence=sentence))


def remaining(done: int, total: int, elapsed_s: float) -> str:
    """`, 12 s left` at the speed so far; nothing while that is a guess, and once everything is in."""
    if elapsed_s < _SURE_AFTER_S or not 0 < done < total:
        return ""
    left = elapsed_s * (total - done) / done
    return f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
