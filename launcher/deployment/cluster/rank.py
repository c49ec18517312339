"""Run a rank: a ggml-rpc-server under a supervisor of its own, as long as its head asks for it.

Its head holds a lease: a byte every few seconds, through ssh, on stdin. Without one, or when that is closed,
the rank ends. So a head that is lost, or cut off, leaves nothing behind, and holds no GPU under an old epoch.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from launcher.deployment import claims
from launcher.deployment.cluster.messages import (
    BEAT_S,
    LOADED,
    SILENCE_S,
    Word,
    format_message,
)
from launcher.deployment.cluster.private_socket import remove_socket, sweep_sockets
from launcher.deployment.identity import is_frozen
from launcher.deployment.log_file import open_log
from launcher.deployment.process import MARKER, process_tree
from launcher.deployment.record import Deployment, Phase
from launcher.deployment.records import find_record, hold_start, marker_of, remove_record, save_record
from launcher.deployment.supervisor import protect
from launcher.deployment.supervisor.lifecycle import State
from launcher.deployment.supervisor.supervisor import Supervisor
from launcher.deployment.takedown import remove_traces
from launcher.engine.environment import engine_env
from launcher.engine.find import RPC_SERVER, SERVER
from launcher.errors import UsageError

_POLL_S = 0.05  # until it is ready: its head waits for that


def _fence(folder: Path, name: str, epoch: int) -> None:
    """End a rank of this name and an older epoch. Raises UsageError for one that is not older."""
    entry = find_record(folder, name)
    if isinstance(entry, Deployment):
        held = entry.options.epoch
        if held is None or held >= epoch:
            raise UsageError(
                f"{name} is here already, of epoch {held}, and {epoch} is not later",
                hint=f"launcher stop {name}",
            )
    if entry is not None:
        remove_traces(folder, name)  # the lock is ours: nobody else forgets it, so that nobody is waited for


def run_rank(folder: Path, record: Deployment, epoch: int) -> str | None:
    """Run the rank of this record until its head lets it go; return why it ended by itself.

    Talks to the head on stdin and stdout, and takes stdout and stderr for its log. Raises UsageError for an
    epoch that is not the latest.
    """
    protect.keep_to_ourselves()
    with hold_start(folder, record.name):
        _fence(folder, record.name, epoch)
        record = replace(record, options=replace(record.options, epoch=epoch, writes_log=True))
        save_record(folder, record)
    sweep_sockets()
    _, dropped = engine_env(os.environ)
    for name in dropped:
        del os.environ[name]
    os.environ[MARKER] = marker_of(folder, record.name)
    to_head = os.dup(1)
    log = open_log(Path(record.log_path))
    for end in (1, 2):
        os.dup2(log, end)
    os.close(log)
    lease = _Lease(folder, record, to_head)
    try:
        supervisor = Supervisor(folder, record, record.options)
        lease.start()
        state = supervisor.run()
        ended = find_record(folder, record.name)
        failure = ended.failure if isinstance(ended, Deployment) and state is State.FAILED else None
        why = "its server ended" if failure is None else failure.sentence
        why = why.replace(SERVER, RPC_SERVER)  # whose endings are explained in the same words
        if state is State.FAILED:
            lease.say(Word.LOST, why)
            return why
        return None
    finally:
        remove_record(folder, record.name)
        if record.options.socket is not None:
            remove_socket(record.options.socket)


class _Lease(threading.Thread):
    """Hear what the head says, and say how the rank is."""

    def __init__(self, folder: Path, record: Deployment, to_head: int) -> None:
        super().__init__(daemon=True, name="lease")
        self._folder, self._record = folder, record
        self._to_head = to_head
        self._is_ready = False
        self._is_loaded = False

    def say(self, word: Word, why: str = "") -> None:
        with contextlib.suppress(OSError):
            os.write(self._to_head, format_message(word, why))

    def run(self) -> None:
        try:
            self._keep()
        finally:  # whatever happened: a rank that nobody holds ends
            os.kill(os.getpid(), signal.SIGTERM)

    def _keep(self) -> None:
        heard = said = time.monotonic()
        while time.monotonic() - heard < SILENCE_S:
            readable, _, _ = select.select([0], [], [], _POLL_S if not self._is_ready else BEAT_S / 2)
            if readable:
                words = os.read(0, 4096)
                if not words:
                    return
                heard = time.monotonic()
                if LOADED in words and not self._is_loaded:
                    self._note_loaded()
            if not self._is_ready or time.monotonic() - said >= BEAT_S:
                said = time.monotonic()
                if not self._look():
                    return

    def _look(self) -> bool:
        """Say how the rank is; False if it is lost."""
        entry = find_record(self._folder, self._record.name)
        if not isinstance(entry, Deployment):
            return not self._is_ready
        if entry.phase is Phase.READY and not self._is_ready:
            self._is_ready = True
            self.say(Word.READY)
        elif self._is_ready:
            parts = () if entry.process is None else process_tree(entry.process)
            if any(is_frozen(part.pid) for part in parts):
                self.say(Word.LOST, f"its {RPC_SERVER} (pid {parts[-1].pid}) is frozen (SIGSTOP)")
                return False
            self.say(Word.WELL)
        return True

    def _note_loaded(self) -> None:
        """Claim no more than what is in use: the system sees that by now."""
        self._is_loaded = True
        entry = find_record(self._folder, self._record.name)
        options = self._record.options
        if isinstance(entry, Deployment) and entry.supervisor and options.claim_folder:
            claim = claims.Claim(name=entry.name, process=entry.supervisor, rows=options.claim, loaded=True)
            with contextlib.suppress(OSError):
                key = claims.claim_key(self._folder, entry.name)
                claims.write_claim(Path(options.claim_folder), key, claim)
