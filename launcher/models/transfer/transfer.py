"""The thread that leads a transfer: it opens shards, starts the others, takes what is whole in, and reports, so that Ctrl-C
is raised there. Leaving stops all threads and keeps what has arrived. What to fetch next is the `Board`'s to say.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from launcher.models.transfer.connection import Connection
from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download, Recipient
from launcher.models.transfer.failures import Trouble, TroubleKind
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.receiving import receive
from launcher.models.transfer.state import OpenShard, ServerBusy, ShardFailed, TransferEvent, TransferState
from launcher.models.transfer.sync_and_hash import hash_rest, sync_all
from launcher.models.transfer.tuning import Tuning, connections_for
from launcher.progress import OnProgress, Step, remark
from launcher.system.cpus import usable_cpus
from launcher.system.locks import exclusive_if_free

_TICK_S = 0.2
_LEAVE_S = 3.0  # for threads to end; one that hangs in a name lookup is left behind


@dataclass(slots=True)
class _Threads:
    running: list[threading.Thread] = field(default_factory=list)
    lines: list[Connection] = field(default_factory=list)


def tuning_here() -> Tuning:
    """For the cores that this process may use."""
    return Tuning(connections=connections_for(len(usable_cpus())))


def fetch_all(wanted: Sequence[Download], desk: Recipient, tuning: Tuning, on_progress: OnProgress) -> None:
    """Fetch the files, several at once. Returns when all are accepted.

    Raises what `desk` explains and OSError of the disk; on any way out, what has arrived stays for the next time.
    """
    if wanted:
        _Crew(wanted, desk, tuning, on_progress).run()


class _Crew:
    def __init__(
        self, wanted: Sequence[Download], desk: Recipient, tuning: Tuning, on_progress: OnProgress
    ) -> None:
        self._wanted, self._desk, self._tuning, self._on_progress = wanted, desk, tuning, on_progress
        self._under_way = TransferState(tuning)
        self._todo = list(range(len(wanted)))
        self._threads = _Threads()
        self._begun_anew: set[int] = set()  # shards whose partial file had vanished
        self._accepted = 0

    def run(self) -> None:
        try:
            waits = self._open_more()  # before there are connections, or the first shard would get them all
            for _ in range(self._tuning.connections):
                self._threads.lines.append(Connection(self._tuning.patience_s))
                self._start(partial(receive, self._under_way, self._threads.lines[-1]))
            self._start(partial(sync_all, self._under_way))
            while self._todo or self._under_way.open:
                self._report(waiting=waits and not self._under_way.open)
                with contextlib.suppress(queue.Empty):
                    self._handle(self._under_way.events.get(timeout=_TICK_S))
                self._break_standing()
                waits = self._open_more()
            self._report(waiting=False)
        finally:
            self._leave()

    def _open_more(self) -> bool:
        """Open shards whose lock is free, as many as may be at once; whether others are fetching one."""
        busy = False
        for shard in list(self._todo):
            if len(self._under_way.open) >= self._tuning.shards_at_once:
                break
            wanted = self._wanted[shard]
            with ExitStack() as held:
                if not held.enter_context(exclusive_if_free(wanted.lock_path)):
                    busy = True
                    continue
                self._todo.remove(shard)
                if self._desk.find_locally(wanted):
                    self._accepted += wanted.size_bytes
                    continue
                part = PartialFile(
                    wanted.partial_path,
                    size_bytes=wanted.size_bytes,
                    unit_bytes=self._tuning.unit_bytes,
                    identity=wanted.identity,
                )
                digest = Digest(part, hashes=wanted.sha256 is not None)
                self._begin(shard, OpenShard(wanted=wanted, part=part, held=held.pop_all(), digest=digest))
        return busy

    def _begin(self, shard: int, opened: OpenShard) -> None:
        with self._under_way.changed:
            self._under_way.open[shard] = opened
            self._under_way.board.open(shard, opened.wanted.size_bytes, opened.part.whole)
            generation = self._under_way.board.generation(shard)
            self._under_way.changed.notify_all()
        self._start(partial(hash_rest, self._under_way, shard, opened, generation))

    def _handle(self, event: TransferEvent) -> None:
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, ServerBusy):
            words = f"server busy ({event.status})" if event.status else "server busy"
            self._on_progress(remark("pull", f"{words}, trying again in {max(1, round(event.wait_s))} s"))
            return
        opened = self._under_way.open.get(event.shard)
        if opened is None:  # of a shard that was settled meanwhile
            return
        if isinstance(event, ShardFailed):
            raise self._desk.explain(opened.wanted, event.trouble)
        if event.sha256 == opened.wanted.sha256:
            self._take_in(event.shard, opened)
            return
        self._fetch_anew(event.shard, opened, event.sha256 or "")

    def _fetch_anew(self, shard: int, opened: OpenShard, sha256: str) -> None:
        """What arrived has another hash: once it is fetched again, the second time the pull ends."""
        wanted = opened.wanted
        opened.part.forget(opened.part.version)
        if opened.retried:
            raise self._desk.explain(wanted, Trouble(kind=TroubleKind.HASH, reason=sha256))
        opened.retried = True
        should = f"should have {(wanted.sha256 or '')[:12]}…: it is fetched again"
        text = f"{wanted.name} arrived with the sha256 {sha256[:12]}…, and {should}"
        self._on_progress(remark("pull", text))
        opened.digest.anew()
        with self._under_way.changed:
            self._under_way.board.restart(shard)
            generation = self._under_way.board.generation(shard)
            self._under_way.changed.notify_all()
        self._start(partial(hash_rest, self._under_way, shard, opened, generation))

    def _take_in(self, shard: int, opened: OpenShard) -> None:
        with self._under_way.changed:
            self._under_way.board.close(shard)
            del self._under_way.open[shard]
        with opened.held:
            opened.part.close()
            try:
                self._desk.accept(opened.wanted, opened.part)
            except FileNotFoundError:  # what is written to a file without a name is lost with it
                if shard in self._begun_anew:
                    raise
                self._begun_anew.add(shard)
                self._todo.append(shard)
                said = f"the partial file of {opened.wanted.name} was removed while it was fetched"
                self._on_progress(remark("pull", said))
                return
        self._accepted += opened.wanted.size_bytes

    def _report(self, *, waiting: bool) -> None:
        total = sum(one.size_bytes for one in self._wanted)
        with self._under_way.changed:
            here = {shard: self._under_way.board.arrived(shard) for shard in self._under_way.open}
        done = self._accepted + sum(here.values())
        text = "another download of the same file is under way" if waiting else ""
        self._on_progress(Step(phase="pull", done=done, total=total, unit="bytes", text=text))
        for shard, n_bytes in here.items():
            wanted = self._wanted[shard]
            size, checked = wanted.size_bytes, self._under_way.open[shard].digest.position
            words = f"checking, {checked * 100 // size} %" if size and n_bytes == size else ""
            self._on_progress(
                Step(phase="pull", done=n_bytes, total=size, unit="bytes", file=wanted.name, text=words)
            )

    def _break_standing(self) -> None:
        """End connections with a read that takes too long: what it has got by then is looked at by `Board.crawls`."""
        latest = time.monotonic() - self._tuning.crawl_window_s
        for line in self._threads.lines:
            if line.reading_since is not None and line.reading_since < latest:
                line.abort()

    def _leave(self) -> None:
        with self._under_way.changed:
            self._under_way.stopped = True
            self._under_way.changed.notify_all()
        for line in self._threads.lines:
            line.abort()
        until = time.monotonic() + _LEAVE_S
        for thread in self._threads.running:
            thread.join(max(0.0, until - time.monotonic()))
        for opened in self._under_way.open.values():
            with opened.held:
                with contextlib.suppress(OSError):  # a full disk has been said already
                    opened.part.sync()
                with contextlib.suppress(OSError):
                    opened.part.close()

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
                self._under_way.events.put(error)

        thread = threading.Thread(target=guarded, daemon=True, name="transfer")
        self._threads.running = [one for one in self._threads.running if one.is_alive()] + [thread]
        thread.start()
