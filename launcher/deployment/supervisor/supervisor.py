"""One small process per deployment: starts llama-server, holds the pipes to it, starts it again, ends it.

It is the one writer of the deployment's record while it lives; `lifecycle` decides, this does. llama-server is its
`child` and ends with it: whoever kills the supervisor ends the server. Where systemd keeps the supervisor up, one that
was killed is started anew and takes the deployment up again.

It waits in one `select` and computes nothing: no poll, no tick. HTTP is done by threads that live for one
question; they answer through a queue, tagged with the number of the child they asked about.

    python -m launcher.deployment.supervisor STATE_FILE
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from launcher.deployment import options, process
from launcher.deployment.identity import Presence, find_presence, identify
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import find_record, progress_path, remove_record, save_record, state_path
from launcher.deployment.supervisor import lifecycle, protect
from launcher.deployment.supervisor.bookkeeping import Bookkeeping
from launcher.deployment.supervisor.child import Child
from launcher.deployment.supervisor.lifecycle import State
from launcher.deployment.supervisor.vram_growth import VramGrowth, VramReader
from launcher.engine import environment
from launcher.engine.log.cause import Cause, CauseKind
from launcher.engine.log.diagnose import diagnose
from launcher.errors import EngineFailed, TryAgain
from launcher.progress import Step

OpenVramReader = Callable[[Mapping[str, str]], VramReader]
"""Opens what reads the memory of these GPUs (UUID by llama.cpp's name)."""

_RESUMABLE = frozenset({Phase.STARTING, Phase.READY, Phase.DEGRADED, Phase.BACKOFF})


@dataclass(frozen=True, slots=True)
class _Told:
    """What a thread found out about child number `child`."""

    child: int
    event: lifecycle.Event
    cause: Cause | None = None


class Supervisor:
    """Drives one lifecycle. `run` returns when nothing is left to do."""

    def __init__(
        self,
        folder: Path,
        deployment: Deployment,
        opts: SupervisorOptions,
        open_gauge: OpenVramReader | None = None,
    ) -> None:
        self._folder = folder
        self._resumed = deployment.supervisor is not None
        self._restarts_before = deployment.restarts + 1 if self._resumed else 0
        self._was_ready = self._resumed and deployment.phase is not Phase.STARTING
        self._record = replace(
            deployment,
            supervisor=identify(os.getpid()),
            failure=_killed(deployment) if self._resumed else deployment.failure,
        )
        self._options = opts
        self._open_gauge = open_gauge
        self._policy = lifecycle.Policy(keep_up=opts.keep_up, grace_s=opts.grace_s, check_s=opts.check_s)
        self._account = Bookkeeping(folder, deployment.name, opts)
        self._life = lifecycle.Lifecycle()
        self._left = False
        self._heard_of = self._was_ready
        self._mute = False
        self._unsaved = False
        self._number = 0
        self._child: Child | None = None
        self._cause: Cause | None = None
        self._timers: dict[lifecycle.Timer, tuple[float, int]] = {}
        self._told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._marker = str(state_path(folder, deployment.name).absolute())
        self._group = (
            None if opts.memory_bytes is None else protect.make_group(deployment.name, opts.memory_bytes)
        )
        self._kills = self._n_killed()

    @property
    def is_mute(self) -> bool:
        """It gave up because nobody could be told how far it was: the record could not be written."""
        return self._mute

    def run(self) -> State:
        """The state it ended in: stopped, or failed."""
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._account.claim(self._record, loaded=False)
        if self._resumed and self._record.failure is not None:
            self._write(f"{self._record.failure.sentence}; it is taken up again")
        self._feed(lifecycle.Start(was_ready=self._was_ready))
        while not self._left:
            self._turn()
        if self._group is not None:
            self._group.remove()
        self._account.drop_claim()
        return self._life.state

    def _turn(self) -> None:
        """Wait for one thing to happen, and see to it."""
        due = min((at for at, _ in self._timers.values()), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if key.fd == self._wake_read:
                self._woken(os.read(self._wake_read, 4096))
            else:
                self._heard()
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

    def _heard(self) -> None:
        """The child's stdout: reports, and between them what belongs into the log."""
        if self._child is None:
            return
        words = self._child.hear()
        if words is None and self._child.stdout is not None:
            self._selector.unregister(self._child.stdout)
        elif words:
            os.write(2, words)

    def _look_for_exit(self) -> None:
        if self._child is None or (status := self._child.exit_status()) is None:
            return
        if self._child.stdout is not None and self._child.stdout in self._selector.get_map():
            with contextlib.suppress(BlockingIOError):
                self._heard()  # its last words
        child, self._child = self._child, None
        if child.stdout is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.stdout)
        child.close()
        process.stop_process(None, marker=self._marker, grace_s=0.0)  # what it started and left behind
        if self._life.state is not State.STOPPING:
            self._note_end(child, status)
            self._account.claim(self._record, loaded=False)
        self._feed(lifecycle.Exited(time.monotonic()))

    def _note_end(self, child: Child, status: int) -> None:
        """It ended by itself: why, into record, history and log. A child we killed keeps the cause we killed it for."""
        kills, before = self._n_killed(), self._kills
        self._kills = kills
        by_kernel = None if kills is None or before is None else kills > before
        cause = self._cause or diagnose(child.log(), status, by_kernel=by_kernel)
        self._record = replace(self._record, failure=cause)
        self._account.note_load(self._record, child, cause)

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
            elif self._unsaved and not self._mute:
                self._save()

    def _do(self, effect: lifecycle.Effect) -> tuple[lifecycle.Event, ...]:
        match effect:
            case lifecycle.Spawn():
                return (self._spawn(),)
            case lifecycle.Watch():
                self._ask(self._watch)
            case lifecycle.CheckHealth():
                self._ask(self._check)
            case lifecycle.AskExit():
                if self._child is not None:
                    self._child.ask_exit()
            case lifecycle.Kill():
                if self._child is not None:
                    self._child.signal(signal.SIGKILL)
            case lifecycle.Arm(timer, generation, after_s):
                self._timers[timer] = (time.monotonic() + after_s, generation)
            case lifecycle.Leave():
                self._left = True
        return ()

    def _announce(self) -> None:
        """Record and log say the new state. A stopped deployment is forgotten: that is what stopping means."""
        state = self._life.state
        if state is State.STOPPED:
            if not self._mute:  # else whoever waits sees that the record stayed where it was, and removes it
                remove_record(self._folder, self._record.name)
            return
        restarts = self._restarts_before + self._life.restarts
        if state is State.READY and not restarts:
            self._record = replace(self._record, failure=None)
        self._say(state)
        self._record = replace(self._record, phase=Phase(state.value), restarts=restarts)
        self._save()

    def _say(self, state: State) -> None:
        words = {State.BACKOFF: "it is started again soon", State.FAILED: "it is not started again"}
        if state in words and self._record.failure is not None:
            number = f"ending {len(self._life.crashes)} in 10 minutes"
            self._write(f"{self._record.failure.sentence}; {words[state]} ({number})")
        elif state is State.STARTING and self._life.restarts:
            self._write(f"start {self._life.restarts + 1} of {self._record.name}")
        elif state is State.READY:
            self._write(f"{self._record.name} is ready at {self._record.url}")

    def _write(self, text: str) -> None:
        """Into the log, and to systemd's journal where that is our stdout."""
        line = f"launcher: {text}\n".encode()
        with contextlib.suppress(OSError):
            os.write(2, line)
            if not os.path.sameopenfile(1, 2):
                os.write(1, line)

    def _save(self) -> None:
        """What cannot be written now is tried again with the next event. But while nobody was told yet that it is
        ready, somebody waits for this record: a server whose readiness cannot be said is ended, and so are we."""
        try:
            save_record(self._folder, self._record)
        except OSError as error:
            if not self._unsaved:
                self._write(f"the record could not be written: {error}")
            self._unsaved = True
            if not self._heard_of and not self._mute:
                self._mute = True
                self._tell(_Told(self._number, lifecycle.Stop()))
        else:
            self._unsaved = False
            self._heard_of = self._heard_of or self._record.phase is not Phase.STARTING

    def _spawn(self) -> lifecycle.Event:
        self._number += 1
        self._cause = None
        taken = VramGrowth(self._options.devices, self._open_gauge)
        group = None if self._group is None else self._group.path
        try:
            child = Child(self._number, self._record.argv, Path(self._record.log_path), group, taken)
        except OSError as error:
            taken.close()
            why = process.cannot_run(self._record.argv[0], error)
            self._cause = Cause(kind=CauseKind.OTHER, sentence=why.message, remedy=why.hint)
            self._record = replace(self._record, failure=self._cause)
            return lifecycle.NotSpawned(time.monotonic())
        self._child = child
        self._record = replace(self._record, process=identify(child.pid))
        if child.stdout is not None:
            self._selector.register(child.stdout, selectors.EVENT_READ)
        self._save()
        return lifecycle.Spawned()

    # ---- threads: one question each ----

    def _ask(self, question: Callable[[Child, Deployment], _Told | None]) -> None:
        child, record = self._child, self._record
        if child is None:
            return

        def run() -> None:
            told = question(child, record)
            if told is not None:
                self._tell(told)

        threading.Thread(target=run, name="question", daemon=True).start()

    def _tell(self, told: _Told) -> None:
        """The main thread, which takes it up at its next turn."""
        self._told.put(told)
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"\0")

    def _watch(self, child: Child, record: Deployment) -> _Told | None:
        """Until it is ready, stalls, or is gone: the last is seen by the main thread."""
        from launcher.deployment.supervisor.ready import LoadFailed, StallLimits, wait_ready  # noqa: PLC0415  while the server loads

        progress = progress_path(self._folder, record.name)
        limits = StallLimits(idle_s=self._options.idle_s, busy_s=self._options.busy_s)

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
                told=lambda: child.reports.loaded,
                taken=lambda: sum(child.taken.now().values()),
                ended=_Gone,
                canary=self._options.canary,
            )
        except _Gone:
            return None
        except LoadFailed as error:
            return _Told(child.number, lifecycle.Unfit(), error.cause)
        except EngineFailed as error:
            cause = Cause(kind=CauseKind.NO_ANSWER, sentence=error.message)
            return _Told(child.number, lifecycle.Unfit(), cause)
        finally:
            with contextlib.suppress(OSError):
                progress.unlink(missing_ok=True)
        self._account.claim(record, loaded=True)
        self._account.note_load(record, child, None)
        child.taken.close()
        return _Told(child.number, lifecycle.Answered())

    def _check(self, child: Child, record: Deployment) -> _Told:
        from launcher.engine.client import is_loaded  # noqa: PLC0415  while nobody waits

        return _Told(child.number, lifecycle.HealthChecked(bool(is_loaded(record.url))))


class _Gone(EngineFailed):
    """The process that a thread watched has ended."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(f"{deployment.name} ended")


def _killed(deployment: Deployment) -> Cause:
    pid = "?" if deployment.supervisor is None else deployment.supervisor.pid
    sentence = f"its supervisor (pid {pid}) was killed, and llama-server with it"
    return Cause(kind=CauseKind.KILLED, sentence=sentence)


def supervise(state_file: Path, open_gauge: OpenVramReader | None = None) -> int:
    """Supervise the deployment of this state file until it has ended; EngineFailed's exit code when it was given up,
    TryAgain's when its record could not be written.

    Nothing to supervise (stopped meanwhile, failed, somebody else does it) is no failure: whoever keeps us up must
    not try again.
    """
    protect.keep_to_ourselves()
    deployment = find_record(state_file.parent, state_file.stem)
    if not isinstance(deployment, Deployment) or deployment.phase not in _RESUMABLE:
        return 0
    keeper = deployment.supervisor
    if keeper is not None and find_presence(keeper) is not Presence.GONE:
        return 0
    opts = options.parse_options(deployment.options)
    _, dropped = environment.engine_env({name: "" for name in os.environ if name not in opts.passed})
    for name in dropped:
        del os.environ[name]
    supervisor = Supervisor(state_file.parent, deployment, opts, open_gauge)
    state = supervisor.run()
    if supervisor.is_mute:
        return TryAgain.exit_code
    return EngineFailed.exit_code if state is State.FAILED else 0
