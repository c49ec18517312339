"""Wait until a deployment has produced a token, for as long as its load makes progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.deployment.identity import Presence, ProcessId, find_presence
from launcher.deployment.log_file import tail
from launcher.deployment.ports import listens
from launcher.deployment.process import Activity, read_activity, reap_process
from launcher.deployment.record import Deployment
from launcher.engine.client import (
    complete_token,
    fill_context,
    generate_token,
    is_loaded,
    read_props,
)
from launcher.engine.key_file import read_api_key
from launcher.engine.log.cause import Cause, CauseKind
from launcher.engine.log.diagnose import diagnose
from launcher.errors import EngineFailed, LauncherError
from launcher.progress import OnProgress, Step, silent
from launcher.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class StallLimits:
    """Seconds in which nothing may move (`idle_s`), or only CPU time (`busy_s`)."""

    idle_s: float = 120.0
    # Software GPUs compile shaders for minutes before the first token (6 min measured), and ending a healthy
    # load costs more than waiting.
    busy_s: float = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSigns:
    loaded: Callable[[], float | None] = lambda: None  # as llama-server reports it, 0 to 1
    vram_bytes: Callable[[], int] = lambda: 0


_POLL_S = 0.025
_SLOW_POLL_S = 0.25
_SLOW_AFTER_S = 5.0
_SAMPLE_S = 0.25

# Less is noise: answering our own polls reads and allocates a little, and takes about 0.1 s of CPU in two
# minutes (at 4 polls a second).
_MOVED_BYTES = MIB
_MOVED_CPU_S = 1.0

_SURE_AFTER_S = 3.0
_LAST_WORDS_S = 2.0  # from a closed connection to the end of its process: the kernel closes sockets first


class LoadFailed(EngineFailed):
    """A deployment did not become ready, or did not stay so."""

    def __init__(self, name: str, cause: Cause) -> None:
        logs = f"launcher logs {name}"
        colon = "" if cause.kind in {CauseKind.STALLED, CauseKind.NO_ANSWER} else ":"
        super().__init__(
            f"{name}{colon} {cause.sentence}",
            hint=logs if cause.remedy is None else f"{cause.remedy}; its log: {logs}",
        )
        self.cause = cause


def failure(deployment: Deployment) -> LoadFailed:
    exit_code = None if deployment.process is None else reap_process(deployment.process)
    return LoadFailed(deployment.name, naming_engine(deployment, diagnose(tail_of(deployment), exit_code)))


def naming_engine(deployment: Deployment, cause: Cause) -> Cause:
    """Name the engine's build where the model is too new for it."""
    if cause.kind is not CauseKind.UNKNOWN_ARCHITECTURE:
        return cause
    commit, folder = deployment.engine_commit, Path(deployment.engine_path).parent.name
    build = f"llama.cpp {commit}, {folder}" if commit else folder
    return replace(cause, sentence=f"{cause.sentence} (it is {build})")


def wait_ready(
    deployment: Deployment,
    *,
    on_progress: OnProgress = silent,
    limits: StallLimits | None = None,
    signs: LoadSigns | None = None,
    ended: Callable[[Deployment], EngineFailed] = failure,
    canary: bool = False,
) -> None:
    """Return once the model has produced a token, and with `canary` read a prompt as long as its context.

    Raises what `ended` returns if the process is gone, LoadFailed if it stalls or answers nothing; what still
    runs is left to the caller.
    """
    if deployment.process is None:
        raise EngineFailed(f"{deployment.name} was never started", hint=f"launcher stop {deployment.name}")
    watch = _Watch(
        deployment, deployment.process, on_progress, limits or StallLimits(), signs or LoadSigns(), ended
    )
    while not (is_loaded(deployment.url) and listens(deployment.process, deployment.port) is not False):
        watch.tick("load")
        watch.pause()
    key = read_api_key(deployment.api_key_file)
    _until_done(lambda: _first_token(deployment, key), "token", deployment, watch)
    if canary:  # memory that was not counted runs out there first
        _until_done(lambda: _fill(deployment.url, key), "canary", deployment, watch)


def _first_token(deployment: Deployment, key: str | None) -> None:
    if deployment.is_vllm:
        complete_token(deployment.url, deployment.model_id, api_key=key)
    else:
        generate_token(deployment.url, api_key=key)


def _fill(url: str, api_key: str | None) -> None:
    n_ctx = read_props(url, api_key=api_key).n_ctx
    if n_ctx is not None:
        fill_context(url, n_ctx, api_key=api_key)


def tail_of(deployment: Deployment) -> str:
    return tail(Path(deployment.log_path))


def _until_done(ask: Callable[[], None], phase: str, deployment: Deployment, watch: _Watch) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            ask()
        except BaseException as error:  # noqa: BLE001  raised again below, in the thread that waits
            failures.append(error)

    # A thread, because the request has no limit of its own and the process has to be watched meanwhile. A
    # daemon, because it ends with the server, and nothing may keep the launcher from ending after Ctrl-C.
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
        problem = (
            "loaded, but produced no token"
            if phase == "token"
            else "failed at a prompt that fills its context"
        )
        cause = Cause(kind=CauseKind.NO_ANSWER, sentence=f"{problem}: {error.message}")
        raise LoadFailed(deployment.name, cause) from error
    raise error


# Loading 500 GB may take half an hour, so there is no time limit. A load fails if its process ends, or if it
# stalls: llama-server's own report, bytes read, bytes resident, GPU memory in use and CPU time all stand
# still.
class _Watch:
    def __init__(
        self,
        deployment: Deployment,
        process: ProcessId,
        on_progress: OnProgress,
        limits: StallLimits,
        signs: LoadSigns,
        ended: Callable[[Deployment], EngineFailed],
    ) -> None:
        self._deployment = deployment
        self._process = process
        self._on_progress = on_progress
        self._limits = limits
        self._signs = signs
        self._ended = ended
        self._began = self._sampled = self._moved = self._worked = time.monotonic()
        self._seen = Activity(read_bytes=None, resident_bytes=0, cpu_s=0.0)
        self._done = 0

    def tick(self, phase: str) -> None:
        """Report progress; raise EngineFailed if the process has ended or stalled."""
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
        # Briefly at first, so that a small model loses nothing.
        young = time.monotonic() - self._began < _SLOW_AFTER_S
        time.sleep(_POLL_S if young else _SLOW_POLL_S)

    def last_words(self) -> None:
        """Raise EngineFailed if the process is ending."""
        # Its log says more than a lost connection.
        deadline = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < deadline:
            if find_presence(self._process) is not Presence.RUNNING:
                raise self._ended(self._deployment)
            time.sleep(_POLL_S)

    def _sample(self, now: float) -> None:
        seen = read_activity(self._process)
        if seen is None:
            return
        reported = int((self._signs.loaded() or 0.0) * self._deployment.model_bytes)
        # The furthest of them: with a warm mmap only the resident size moves.
        done = max(seen.read_bytes or 0, seen.resident_bytes, reported, self._signs.vram_bytes())
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

    def _stalled(self, problem: str, limit_s: float) -> LoadFailed:
        program = "vLLM" if self._deployment.is_vllm else "llama-server"
        sentence = f"stalled: for {limit_s:.0f} s {program} {problem}"
        return LoadFailed(self._deployment.name, Cause(kind=CauseKind.STALLED, sentence=sentence))


def remaining(done: int, total: int, elapsed_s: float) -> str:
    """Return `, 12 s left` at the speed so far, once that is more than a guess."""
    if elapsed_s < _SURE_AFTER_S or not 0 < done < total:
        return ""
    left = elapsed_s * (total - done) / done
    return f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
