"""Supervise one deployment: start llama-server, watch it, start it again, end it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from launcher.deployment import process
from launcher.deployment.address import check_start
from launcher.deployment.identity import identify
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment
from launcher.deployment.records import marker_of, progress_path
from launcher.deployment.supervisor import lifecycle, protect
from launcher.deployment.supervisor.bookkeeping import Bookkeeping
from launcher.deployment.supervisor.child import Child
from launcher.deployment.supervisor.lifecycle import State
from launcher.deployment.supervisor.log_writer import LogWriter
from launcher.deployment.supervisor.questions import (
    Questions,
    Reply,
    check_failed,
    check_health,
    watch_load,
    watching_failed,
)
from launcher.deployment.supervisor.record_keeper import RecordKeeper
from launcher.deployment.supervisor.vram_growth import VramGrowth, VramMeter
from launcher.engine.log.cause import Cause, CauseKind
from launcher.engine.log.diagnose import diagnose
from launcher.errors import LauncherError, UsageError

# Opens a meter of the memory of these GPUs (UUID by llama.cpp's name).
OpenVramMeter = Callable[[Mapping[str, str]], VramMeter]

# Of 64 kB each, from a server that has ended: what it left behind may print for ever.
_LAST_READS = 64


class Supervisor:
    """Carry out what `lifecycle` decides. Killing the supervisor ends the server."""

    def __init__(
        self,
        folder: Path,
        deployment: Deployment,
        options: SupervisorOptions,
        open_vram_meter: OpenVramMeter | None = None,
    ) -> None:
        self._options = options
        self._open_vram_meter = open_vram_meter
        self._policy = lifecycle.Policy(
            keep_up=options.keep_up, grace_s=options.grace_s, check_s=options.check_s
        )
        if options.node is not None or options.nodes:
            # Machines come back by themselves, and a lost one is no fault of the server.
            self._policy = replace(self._policy, max_restarts=1000, pause_s=0.25, window_s=8.0)
        self._life = lifecycle.Lifecycle()
        self._is_over = False
        self._number = 0
        self._child: Child | None = None
        self._cause: Cause | None = None
        self._timers: dict[lifecycle.Timer, tuple[float, int]] = {}
        self._questions = Questions()
        self._selector = selectors.DefaultSelector()
        self._keeper = RecordKeeper(folder, deployment, identify(os.getpid()), self._stop_self)
        self._bookkeeping = Bookkeeping(folder, deployment.name, options)
        self._marker = marker_of(folder, deployment.name)
        self._log = LogWriter(Path(deployment.log_path))
        self._is_usual_level = "-lv 4" in " ".join(deployment.argv)  # else the user asked for another one
        self._progress = progress_path(folder, deployment.name)
        limit = options.memory_bytes
        self._group = None if limit is None else protect.make_group(deployment.name, limit)
        self._kills = self._count_kills()

    @property
    def is_mute(self) -> bool:
        """True if it ended because its record could not be written."""
        return self._keeper.is_mute

    def run(self) -> State:
        keeper = self._keeper
        self._selector.register(self._questions.wake_read, selectors.EVENT_READ)
        self._questions.wake_on_signals()
        self._bookkeeping.claim(keeper.record, loaded=False)
        if keeper.is_resumed and keeper.record.failure is not None:
            keeper.log(f"{keeper.record.failure.sentence}; it is taken up again")
        try:
            self._feed(lifecycle.Start(was_ready=keeper.was_ready))
            while not self._is_over:
                self._turn()
        except Exception as error:
            self._give_up(error)
            raise
        if self._group is not None:
            self._group.remove()
        self._bookkeeping.drop_claim()
        return self._life.state  # stopped or failed

    def _stop_self(self) -> None:
        self._questions.put(Reply(self._number, lifecycle.Stop()))

    def _give_up(self, error: Exception) -> None:
        """End the server with us, and write down why: nobody would start it again."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
        sentence = f"its supervisor failed: {type(error).__name__}: {' '.join(str(error).split())}"
        self._keeper.set_failure(Cause(kind=CauseKind.OTHER, sentence=sentence))
        self._keeper.give_up()

    # ---- the main loop ----

    def _turn(self) -> None:
        # One `select`: no poll, no tick. HTTP is for threads (`questions`).
        due = min((at for at, _ in self._timers.values()), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if key.fd == self._questions.wake_read:
                self._take_replies()
            else:
                self._read(key.fd)
        self._look_for_exit()
        self._log.bound()
        now = time.monotonic()
        for timer, (at, generation) in list(self._timers.items()):
            if at <= now:
                del self._timers[timer]
                self._feed(lifecycle.Elapsed(timer, generation))

    def _take_replies(self) -> None:
        if self._questions.woken_by_stop():
            self._feed(lifecycle.Stop())
        for reply in self._questions.replies():
            if reply.child == self._number:  # else it is about an earlier child
                if reply.cause is not None and not isinstance(reply.event, lifecycle.Unfit):
                    self._keeper.log(reply.cause.sentence)
                else:
                    self._cause = reply.cause or self._cause
                self._feed(reply.event)

    def _read(self, output: int) -> bool:
        """Write to the log what the child printed; return whether there may be more."""
        if self._child is None:
            return False
        try:
            printed = self._child.read(output)
        except BlockingIOError:
            return False
        if printed is None:
            self._selector.unregister(output)
            return False
        is_up = self._life.state in {State.READY, State.DEGRADED}
        self._log.add(printed, quiet=is_up and self._is_usual_level)
        return True

    def _look_for_exit(self) -> None:
        if self._child is None or (status := self._child.exit_status()) is None:
            return
        for output in self._child.outputs:
            for _ in range(_LAST_READS):  # what it printed last
                if output not in self._selector.get_map() or not self._read(output):
                    break
        self._log.end()
        child, self._child = self._child, None
        for output in child.outputs:
            with contextlib.suppress(KeyError):
                self._selector.unregister(output)
        child.close()
        process.stop_process(None, marker=self._marker, grace_s=0.0)  # what it started and left behind
        if self._life.state is not State.STOPPING:
            self._explain_exit(child, status)
            self._bookkeeping.claim(self._keeper.record, loaded=False)
        self._feed(lifecycle.Exited(time.monotonic()))

    def _explain_exit(self, child: Child, status: int) -> None:
        kills, before = self._count_kills(), self._kills
        self._kills = kills
        by_kernel = None if kills is None or before is None else kills > before
        # A child that we killed has the cause that we killed it for.
        cause = self._cause or diagnose(child.log(), status, by_kernel=by_kernel)
        self._keeper.set_failure(cause)
        self._bookkeeping.note_load(self._keeper.record, child, cause)

    def _count_kills(self) -> int | None:
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
                self._keeper.announce(self._life)
            else:
                self._keeper.save_if_unsaved()

    def _do(self, effect: lifecycle.Effect) -> tuple[lifecycle.Event, ...]:
        """Carry out the effect; return the events that answer it at once."""
        match effect:
            case lifecycle.Spawn():
                return (self._spawn(),)
            case lifecycle.Watch():
                self._ask(self._watch, watching_failed)
            case lifecycle.CheckHealth():
                self._ask(check_health, check_failed)
            case lifecycle.AskExit():
                if self._child is not None:
                    self._child.ask_exit()
            case lifecycle.Kill():
                if self._child is not None:
                    self._child.signal(signal.SIGKILL)
            case lifecycle.Arm(timer, generation, after_s):
                self._timers[timer] = (time.monotonic() + after_s, generation)
            case lifecycle.Leave():
                self._is_over = True
        return ()

    def _spawn(self) -> lifecycle.Event:
        self._number += 1
        self._cause = None
        argv, log = self._keeper.record.argv, Path(self._keeper.record.log_path)
        try:
            check_start(argv)
        except UsageError as why:
            return self._not_spawned(why)
        growth = VramGrowth(self._options.devices, self._open_vram_meter)
        group = None if self._group is None else self._group.path
        try:
            child = Child(self._number, argv, log, group, growth)
        except OSError as error:
            growth.close()
            return self._not_spawned(process.cannot_run(argv[0], error))
        self._child = child
        for output in child.outputs:
            self._selector.register(output, selectors.EVENT_READ)
        self._keeper.set_process(identify(child.pid))
        return lifecycle.Spawned()

    def _not_spawned(self, why: LauncherError) -> lifecycle.NotSpawned:
        self._cause = Cause(kind=CauseKind.OTHER, sentence=why.message, remedy=why.hint)
        self._keeper.set_failure(self._cause)
        return lifecycle.NotSpawned(time.monotonic())

    def _ask(
        self,
        question: Callable[[Child, Deployment], Reply | None],
        if_it_fails: Callable[[Child, Exception], Reply],
    ) -> None:
        child, record = self._child, self._keeper.record
        if child is not None:
            self._questions.ask(lambda: question(child, record), lambda error: if_it_fails(child, error))

    def _watch(self, child: Child, record: Deployment) -> Reply | None:
        reply = watch_load(child, record, self._options, self._progress)
        if reply is not None and isinstance(reply.event, lifecycle.Answered):
            child.load_s = time.monotonic() - child.began
            self._bookkeeping.claim(record, loaded=True)
            self._bookkeeping.note_load(record, child, None)
            child.vram_growth.close()
        return reply
