"""Keep the record of a supervised deployment up to date, and say in its log what happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from launcher.deployment.identity import ProcessId
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import remove_record, save_record
from launcher.deployment.supervisor.lifecycle import Lifecycle, State
from launcher.engine.log.cause import Cause, CauseKind


class RecordKeeper:
    """The record of one deployment, whose only writer this is.

    A record that cannot be written is tried again with the next event, except while a launcher waits to read
    that the server is ready: then `is_mute` becomes true, and `on_mute` is called.
    """

    def __init__(
        self, folder: Path, deployment: Deployment, me: ProcessId | None, on_mute: Callable[[], None]
    ) -> None:
        self._folder = folder
        self._on_mute = on_mute
        self.is_resumed = deployment.supervisor is not None
        self._restarts_before = deployment.restarts + 1 if self.is_resumed else 0
        self.was_ready = self.is_resumed and deployment.phase is not Phase.STARTING
        failure = _killed(deployment) if self.is_resumed else deployment.failure
        self.record = replace(deployment, supervisor=me, failure=failure)
        self.is_mute = False
        self._is_heard_of = self.was_ready
        self._is_unsaved = False

    def set_process(self, process: ProcessId | None) -> None:
        self.record = replace(self.record, process=process)
        self.save()

    def set_failure(self, cause: Cause) -> None:
        self.record = replace(self.record, failure=cause)

    def announce(self, life: Lifecycle) -> None:
        """Write the new state into record and log."""
        state = life.state
        if state is State.STOPPED:
            # A mute one stays as it is: the launcher that waits sees that, and removes it.
            if not self.is_mute:
                remove_record(self._folder, self.record.name)
            return
        restarts = self._restarts_before + life.restarts
        if state is State.READY and not restarts:
            self.record = replace(self.record, failure=None)
        self._log_state(life)
        self.record = replace(self.record, phase=Phase(state.value), restarts=restarts)
        self.save()

    def give_up(self) -> None:
        """Write down that nothing runs any more, and nothing is started again."""
        self.record = replace(self.record, phase=Phase.FAILED)
        self.save()

    def save(self) -> None:
        try:
            save_record(self._folder, self.record)
        except OSError as error:
            if not self._is_unsaved:
                self.log(f"the record could not be written: {error}")
            self._is_unsaved = True
            if not self._is_heard_of and not self.is_mute:
                self.is_mute = True
                self._on_mute()
        else:
            self._is_unsaved = False
            self._is_heard_of = self._is_heard_of or self.record.phase is not Phase.STARTING

    def save_if_unsaved(self) -> None:
        if self._is_unsaved and not self.is_mute:
            self.save()

    def log(self, text: str) -> None:
        line = f"launcher: {text}\n".encode()
        with contextlib.suppress(OSError):
            os.write(2, line)  # stderr is the log; stdout may be systemd's journal
            if not os.path.sameopenfile(1, 2):
                os.write(1, line)

    def _log_state(self, life: Lifecycle) -> None:
        record, state = self.record, life.state
        words = {State.BACKOFF: "it is started again soon", State.FAILED: "it is not started again"}
        if state in words and record.failure is not None:
            number = f"ending {len(life.crashes)} of late"
            self.log(f"{record.failure.sentence}; {words[state]} ({number})")
        elif state is State.STARTING and life.restarts:
            self.log(f"start {life.restarts + 1} of {record.name}")
        elif state is State.READY:
            self.log(f"{record.name} is ready at {record.url}")


def _killed(deployment: Deployment) -> Cause:
    pid = "?" if deployment.supervisor is None else deployment.supervisor.pid
    sentence = f"its supervisor (pid {pid}) was killed, and llama-server with it"
    return Cause(kind=CauseKind.KILLED, sentence=sentence)
