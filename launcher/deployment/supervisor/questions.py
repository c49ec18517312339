"""Ask about the child in threads; their replies wake the supervisor's main loop."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher.deployment.identity import Presence, find_presence
from launcher.deployment.options import SupervisorOptions
from launcher.deployment.record import Deployment
from launcher.deployment.supervisor import lifecycle
from launcher.deployment.supervisor.child import Child
from launcher.engine.log.cause import Cause, CauseKind
from launcher.errors import EngineFailed, LauncherError
from launcher.progress import Step

_RANK_S = 60.0  # for a ggml-rpc-server to listen: its driver may have to wake up
_RANK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    child: int  # its number
    event: lifecycle.Event
    cause: Cause | None = None


class Questions:
    """A queue of replies, and a pipe that wakes the main loop for them and for signals."""

    def __init__(self) -> None:
        self._replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.wake_read, self._wake_write = os.pipe()
        for end in (self.wake_read, self._wake_write):
            os.set_blocking(end, False)

    def wake_on_signals(self) -> None:
        """Have signals wake the main loop. Main thread only."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def woken_by_stop(self) -> bool:
        """Read what woke the loop; tell whether a signal asks to stop."""
        # Signals by number, replies as zero.
        return bool(os.read(self.wake_read, 4096).translate(None, bytes((0, signal.SIGCHLD))))

    def ask(self, question: Callable[[], Reply | None], if_it_fails: Callable[[Exception], Reply]) -> None:
        # in a thread of its own; it may have no reply, and its failure is one
        def run() -> None:
            try:
                reply = question()
            except Exception as error:  # noqa: BLE001  nobody else would hear of it, and all would wait
                reply = if_it_fails(error)
            if reply is not None:
                self.put(reply)

        threading.Thread(target=run, name="question", daemon=True).start()

    def put(self, reply: Reply) -> None:
        self._replies.put(reply)
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"\0")

    def replies(self) -> Iterator[Reply]:
        while True:
            try:
                yield self._replies.get_nowait()
            except queue.Empty:
                return


class _ChildEnded(EngineFailed):
    def __init__(self, deployment: Deployment) -> None:
        super().__init__(f"{deployment.name} ended")


def watch_load(child: Child, record: Deployment, options: SupervisorOptions, progress: Path) -> Reply | None:
    """Wait until the child is ready or unfit, writing its progress to a file; None if it ended."""
    if options.socket is not None:
        return _watch_rank(child, Path(options.socket))
    # Imported while the server loads: nothing waits for it.
    from launcher.deployment.supervisor.ready import (  # noqa: PLC0415
        LoadFailed,
        LoadSigns,
        StallLimits,
        wait_ready,
    )

    def show(step: Step) -> None:
        with contextlib.suppress(OSError):
            temporary = progress.with_suffix(".progress-new")
            temporary.write_text(json.dumps(asdict(step)), encoding="utf-8")
            temporary.replace(progress)

    try:
        wait_ready(
            record,
            on_progress=show,
            limits=StallLimits(idle_s=options.idle_s, busy_s=options.busy_s),
            signs=LoadSigns(
                loaded=lambda: child.reports.loaded,
                vram_bytes=lambda: sum(child.vram_growth.read().values()),
            ),
            ended=_ChildEnded,
            canary=options.canary,
        )
    except _ChildEnded:
        return None  # the main loop sees that, too
    except LoadFailed as error:
        return Reply(child.number, lifecycle.Unfit(), error.cause)
    except EngineFailed as error:
        cause = Cause(kind=CauseKind.NO_ANSWER, sentence=error.message)
        return Reply(child.number, lifecycle.Unfit(), cause)
    finally:
        with contextlib.suppress(OSError):
            progress.unlink(missing_ok=True)
    return Reply(child.number, lifecycle.Answered())


def _watch_rank(child: Child, way: Path) -> Reply | None:
    """Wait until a socket leads to a ggml-rpc-server, which takes one connection at a time: none asks."""
    deadline = time.monotonic() + _RANK_S
    while child.exit_status() is None:
        if way.is_socket():
            return Reply(child.number, lifecycle.Answered())
        if time.monotonic() > deadline:
            sentence = f"ggml-rpc-server did not listen within {_RANK_S:.0f} s"
            return Reply(child.number, lifecycle.Unfit(), Cause(kind=CauseKind.STALLED, sentence=sentence))
        time.sleep(_RANK_POLL_S)
    return None  # it ended: the main loop sees that, too


def watching_failed(child: Child, error: Exception) -> Reply:
    """Give up a load that nothing watches any more."""
    return Reply(child.number, lifecycle.Unfit(), _failure("its load cannot be watched", error))


def check_failed(child: Child, error: Exception) -> Reply:
    """Count a server that cannot be asked as one that does not answer."""
    cause = _failure("its health cannot be checked", error)
    return Reply(child.number, lifecycle.HealthChecked(well=False), cause)


def _failure(problem: str, error: Exception) -> Cause:
    if isinstance(error, LauncherError):
        return Cause(kind=CauseKind.OTHER, sentence=f"{problem}: {error.message}", remedy=error.hint)
    sentence = f"{problem}: {type(error).__name__}: {' '.join(str(error).split())}"
    return Cause(kind=CauseKind.OTHER, sentence=sentence)


def check_health(child: Child, record: Deployment) -> Reply:
    if record.options.epoch is not None and record.process is not None:
        return Reply(child.number, lifecycle.HealthChecked(find_presence(record.process) is Presence.RUNNING))
    from launcher.engine.client import is_loaded  # noqa: PLC0415  as above

    return Reply(child.number, lifecycle.HealthChecked(bool(is_loaded(record.url))))
