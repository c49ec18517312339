"""One small process per deployment: starts llama-server, holds the pipe to it, starts it again, ends it.

It is the one writer of the deployment's record while it lives; `lifecycle` decides, this does. It talks to
llama-server by the child protocol (tools/server/server-models.cpp): under LLAMA_SERVER_ROUTER_PORT the server
tells its state on stdout, takes `cmd_router_to_child:exit` on stdin, and ends when stdin closes. So whoever kills
the supervisor ends the server. An engine without the protocol is watched from outside and ended by SIGTERM.

It waits in one `select` and computes nothing: no poll, no tick. HTTP is done by threads that live for one
question; they answer through a queue, tagged with the number of the child they asked about.

    python -m launcher.engine.supervisor STATE_FILE OPTIONS_AS_JSON
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher.engine import claims, history, lifecycle, process, protect
from launcher.engine.deployments import find, now, progress_path, remove, save, state_path
from launcher.engine.diagnose import Cause, CauseKind, diagnose
from launcher.engine.identity import identify
from launcher.engine.lifecycle import State
from launcher.engine.load_log import held
from launcher.engine.log import read_from, size_of
from launcher.engine.protocol import EXIT, Reports
from launcher.engine.record import Deployment, Phase
from launcher.errors import EngineFailed
from launcher.progress import Step

_ROUTER_PORT = {"LLAMA_SERVER_ROUTER_PORT": "1"}
"""Its presence alone makes llama-server a child; the port is never connected to."""
_LOG_BYTES = 4 << 20
"""Of one load, for the diagnosis: at -lv 4 a model of 60 layers logs about 100 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a launcher tells the supervisor beside the record. `memory_bytes` is the limit of its memory group.

    `history` is the file every load is noted in, `engine`, `driver` and the `attempt` (saves, correction, step) are
    what is noted with it. `claim` is what was promised (bytes by row), `claim_file` where that is said.
    """

    keep_up: bool = False
    canary: bool = False
    idle_s: float = 120.0
    busy_s: float = 1800.0
    grace_s: float = process.GRACE_S
    check_s: float = 30.0
    memory_bytes: int | None = None
    history: str | None = None
    driver: str | None = None
    attempt: dict[str, Any] = field(default_factory=dict)
    claim: dict[str, int] = field(default_factory=dict)
    claim_folder: str | None = None


def command(state_file: Path, options: Options) -> tuple[str, ...]:
    """The supervisor's own command line. -P: the folder it starts in is nobody's package."""
    return (
        sys.executable,
        "-P",
        "-m",
        "launcher.engine.supervisor",
        str(state_file),
        json.dumps(asdict(options)),
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What a thread found out about child number `child`."""

    child: int
    event: lifecycle.Event
    cause: Cause | None = None


class Supervisor:
    """Drives one lifecycle. `run` returns when nothing is left to do."""

    def __init__(self, folder: Path, deployment: Deployment, options: Options) -> None:
        self._folder = folder
        self._record = replace(deployment, supervisor=identify(os.getpid()))
        self._options = options
        self._policy = lifecycle.Policy(
            keep_up=options.keep_up, grace_s=options.grace_s, check_s=options.check_s
        )
        self._life = lifecycle.Lifecycle()
        self._left = False
        self._number = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._reports = Reports()
        self._cause: Cause | None = None
        self._log = Path(deployment.log_path)
        self._log_start = 0
        self._spawned_at = 0.0
        self._timers: dict[lifecycle.Timer, tuple[float, int]] = {}
        self._told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        self._selector = selectors.DefaultSelector()
        marker = state_path(folder, deployment.name).absolute()
        self._marker = str(marker)
        self._group = (
            None
            if options.memory_bytes is None
            else protect.make_group(f"{deployment.name}-{os.getpid()}", options.memory_bytes)
        )
        self._kills = self._n_killed()

    def run(self) -> None:
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._claim(loaded=False)
        self._feed(lifecycle.Start())
        while not self._left:
            self._turn()
        if self._group is not None:
            self._group.remove()
        if self._options.claim_folder is not None:
            claims.drop(Path(self._options.claim_folder), self._claim_key())

    def _claim(self, *, loaded: bool) -> None:
        """What was promised is ours from here on; on the GPUs it is taken once the model is loaded."""
        options, me = self._options, self._record.supervisor
        if options.claim_folder is None or me is None:
            return
        claim = claims.Claim(name=self._record.name, process=me, rows=options.claim, loaded=loaded)
        with contextlib.suppress(
            OSError
        ):  # a promise that cannot be written protects nobody, and hinders nobody
            claims.write(Path(options.claim_folder), self._claim_key(), claim)

    def _claim_key(self) -> str:
        return claims.key_of(self._folder, self._record.name)

    def _turn(self) -> None:
        """Wait for one thing to happen, and see to it."""
        due = min((at for at, _ in self._timers.values()), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if key.fd == self._wake_read:
                self._woken(os.read(self._wake_read, 4096))
            else:
                self._heard(key.fd)
        self._look_for_exit()
        now = time.monotonic()
        for timer, (at, generation) in list(self._timers.items()):
            if at <= now:
                del self._timers[timer]
                self._feed(lifecycle.Elapsed(timer, generation))

    def _woken(self, signals: bytes) -> None:
        """By signals (their numbers) and by threads (zero)."""
        if signals.translate(None, bytes((0, signal.SIGCHLD))):
            self._feed(lifecycle.Stop())
        while True:
            try:
                told = self._told.get_nowait()
            except queue.Empty:
                return
            if told.child == self._number:
                self._cause = told.cause or self._cause
                self._feed(told.event)

    def _heard(self, descriptor: int) -> None:
        """The child's stdout: reports, and between them what belongs into the log."""
        data = os.read(descriptor, 1 << 16)
        if not data:
            self._selector.unregister(descriptor)
            return
        if words := self._reports.add(data):
            os.write(2, words)

    def _look_for_exit(self) -> None:
        if self._child is None or (status := self._child.poll()) is None:
            return
        child, self._child = self._child, None
        if child.stdout is not None and child.stdout.fileno() in self._selector.get_map():
            with contextlib.suppress(BlockingIOError):
                self._heard(child.stdout.fileno())  # its last words
        self._close(child)
        process.stop(None, marker=self._marker, grace_s=0.0)  # what it started and left behind
        if self._life.state is not State.STOPPING:
            self._note_end(status)
            self._claim(loaded=False)
        self._feed(lifecycle.Exited(time.monotonic()))

    def _close(self, child: subprocess.Popen[bytes]) -> None:
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(pipe)
                with contextlib.suppress(OSError):
                    pipe.close()

    def _note_end(self, status: int) -> None:
        """It ended by itself: why, into record, history and log. A child we killed keeps the cause we killed it for."""
        kills, before = self._n_killed(), self._kills
        self._kills = kills
        by_kernel = None if kills is None or before is None else kills > before
        log = read_from(self._log, self._log_start, _LOG_BYTES)
        cause = self._cause or diagnose(log, status, by_kernel=by_kernel)
        self._record = replace(self._record, failure=cause)
        self._remember(log, cause)

    def _n_killed(self) -> int | None:
        return protect.own_kills() if self._group is None else self._group.n_killed()

    # ---- the lifecycle and its effects ----

    def _feed(self, event: lifecycle.Event) -> None:
        events = deque((event,))
        while events:
            before = self._life
            self._life, effects = lifecycle.advance(before, events.popleft(), self._policy)
            if not self._life.timers:
                self._timers.clear()
            for effect in effects:
                events.extend(self._do(effect))
            if self._life.state is not before.state:
                self._announce()

    def _do(self, effect: lifecycle.Effect) -> tuple[lifecycle.Event, ...]:
        match effect:
            case lifecycle.Spawn():
                return (self._spawn(),)
            case lifecycle.Watch():
                self._ask(self._watch)
            case lifecycle.Check():
                self._ask(self._check)
            case lifecycle.AskExit():
                self._ask_exit()
            case lifecycle.Kill():
                self._signal(signal.SIGKILL)
            case lifecycle.Arm(timer, generation, after_s):
                self._timers[timer] = (time.monotonic() + after_s, generation)
            case lifecycle.Leave():
                self._left = True
        return ()

    def _announce(self) -> None:
        """Record and log say the new state. A stopped deployment is forgotten: that is what stopping means."""
        state = self._life.state
        if state is State.STOPPED:
            remove(self._folder, self._record.name)
            return
        if state is State.READY:
            self._record = replace(
                self._record, failure=self._record.failure if self._life.restarts else None
            )
        if state is not State.STARTING or self._life.restarts:
            self._say(state)
        self._record = replace(self._record, phase=Phase(state.value), restarts=self._life.restarts)
        self._save()

    def _say(self, state: State) -> None:
        words = {State.BACKOFF: "it is started again soon", State.FAILED: "it is not started again"}
        if state in words and self._record.failure is not None:
            number = f"ending {len(self._life.crashes)} in 10 minutes"
            self._write(f"{self._record.failure.sentence}; {words[state]} ({number})")
        elif state is State.STARTING:
            self._write(f"start {self._life.restarts + 1} of {self._record.name}")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"launcher: {text}\n".encode())

    def _save(self) -> None:
        try:
            save(self._folder, self._record)
        except OSError as error:  # a full disk is no reason to end what runs; the next change tries again
            self._write(f"the record could not be written: {error}")

    def _spawn(self) -> lifecycle.Event:
        self._number += 1
        self._reports = Reports()
        self._cause = None
        self._log_start = size_of(self._log)
        self._spawned_at = time.monotonic()
        try:
            child = subprocess.Popen(
                self._record.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **_ROUTER_PORT},
                start_new_session=True,
                preexec_fn=protect.before_exec(None if self._group is None else self._group.path),  # noqa: PLW1509  no thread of ours runs between two children
            )
        except OSError as error:
            why = process.cannot_run(self._record.argv[0], error)
            self._cause = Cause(kind=CauseKind.OTHER, sentence=why.message, remedy=why.hint)
            self._record = replace(self._record, failure=self._cause)
            return lifecycle.NotSpawned(time.monotonic())
        self._child = child
        self._record = replace(self._record, process=identify(child.pid))
        if child.stdout is not None:
            os.set_blocking(child.stdout.fileno(), False)
            self._selector.register(child.stdout.fileno(), selectors.EVENT_READ)
        self._save()
        return lifecycle.Spawned()

    def _ask_exit(self) -> None:
        """By the pipe where the child listens to it, which it does once it is loaded; else by SIGTERM."""
        if self._child is not None and self._child.stdin is not None and self._reports.is_ready:
            with contextlib.suppress(OSError):
                os.write(self._child.stdin.fileno(), EXIT)
                return
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    # ---- threads: one question each ----

    def _ask(self, question: Callable[[int, Deployment], _Told | None]) -> None:
        number, record = self._number, self._record

        def run() -> None:
            told = question(number, record)
            if told is not None:
                self._told.put(told)
                with contextlib.suppress(OSError):
                    os.write(self._wake_write, b"\0")

        threading.Thread(target=run, name="question", daemon=True).start()

    def _watch(self, number: int, record: Deployment) -> _Told | None:
        """Until it is ready, stalls, or is gone: the last is seen by the main thread."""
        from launcher.engine.ready import LoadFailed, StallLimits, wait_ready  # noqa: PLC0415  while the server loads

        progress = progress_path(self._folder, record.name)
        limits = StallLimits(idle_s=self._options.idle_s, busy_s=self._options.busy_s)
        reports = self._reports

        def told() -> float | None:
            return reports.loaded

        def show(step: Step) -> None:
            with contextlib.suppress(OSError):
                temporary = progress.with_suffix(".progress-new")
                temporary.write_text(json.dumps(asdict(step)), encoding="utf-8")
                temporary.replace(progress)

        try:
            wait_ready(
                record,
                on_progress=show,
                limits=limits,
                told=told,
                ended=_Gone,
                canary=self._options.canary,
            )
        except _Gone:
            return None
        except LoadFailed as error:
            return _Told(number, lifecycle.Unfit(), error.cause)
        except EngineFailed as error:
            cause = Cause(kind=CauseKind.NO_ANSWER, sentence=error.message)
            return _Told(number, lifecycle.Unfit(), cause)
        finally:
            with contextlib.suppress(OSError):
                progress.unlink(missing_ok=True)
        self._claim(loaded=True)
        self._remember(read_from(self._log, self._log_start, _LOG_BYTES), None)
        return _Told(number, lifecycle.Answered())

    def _check(self, number: int, record: Deployment) -> _Told:
        from launcher.engine.client import is_loaded  # noqa: PLC0415  while nobody waits

        return _Told(number, lifecycle.Checked(bool(is_loaded(record.url))))

    def _remember(self, log: str, cause: Cause | None) -> None:
        """Planned against seen, one line of the history."""
        if self._options.history is None:
            return
        record, server = self._record, self._record.process
        seen = None if server is None else process.activity(server)
        entry = history.Entry(
            at=now(),
            name=record.name,
            model_id=record.model_id,
            identity=history.Identity(
                plan=history.plan_key(record.plan), engine=record.engine_sha256, driver=self._options.driver
            ),
            outcome=history.outcome_of(cause),
            load_s=round(time.monotonic() - self._spawned_at, 2),
            cause=None if cause is None else cause.sentence,
            rows=history.compare(record.plan, held(log)),
            resident_bytes=None if seen is None else seen.resident_bytes,
            **history.attempt_from(self._options.attempt),
        )
        with contextlib.suppress(OSError):  # a full disk is no reason to end what runs
            history.append(Path(self._options.history), entry)


class _Gone(EngineFailed):
    """The process that a thread watched has ended."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(f"{deployment.name} ended")


def main(arguments: list[str]) -> int:
    """Supervise the deployment of this state file until it has ended; 1 where there is none to supervise."""
    state_file, options = Path(arguments[0]), Options(**json.loads(arguments[1]))
    protect.keep_to_ourselves()
    deployment = find(state_file.parent, state_file.stem)
    if not isinstance(deployment, Deployment) or deployment.phase is not Phase.STARTING:
        return 1
    Supervisor(state_file.parent, deployment, options).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
