"""The leading thread of a transfer: open shards, start threads, accept whole files, report."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download, Recipient
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.receiving import receive
from launcher.models.transfer.state import OpenShard, ServerBusy, ShardFailed, TransferEvent, TransferState
from launcher.models.transfer.sync_and_hash import hash_rest, sync_all
from launcher.models.transfer.tuning import Tuning, connections_for
from launcher.progress import OnProgress, Step, remark
from launcher.system.cpus import usable_cpus
from launcher.system.locks import exclusive_if_free
from launcher.system.network.connection import Connection
from launcher.system.network.trouble import Trouble, TroubleKind

_TICK_S = 0.2
_LEAVE_S = 3.0  # for threads to end; one that hangs in a name lookup is left behind


def tuning_here() -> Tuning:
    """Return the tuning for the cores that this process may use."""
    return Tuning(connections=connections_for(len(usable_cpus())))


def download_all(
    downloads: Sequence[Download], recipient: Recipient, tuning: Tuning, on_progress: OnProgress
) -> None:
    """Fetch the files; return when the recipient has accepted all.

    Raises what `recipient` explains, and OSError of the disk. However it ends, what has arrived stays.
    """
    if downloads:
        _Transfer(downloads, recipient, tuning, on_progress).run()


@dataclass(slots=True)
class _Threads:
    running: list[threading.Thread] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)


class _Transfer:
    # run by the calling thread, so that Ctrl-C is raised here
    def __init__(
        self, downloads: Sequence[Download], recipient: Recipient, tuning: Tuning, on_progress: OnProgress
    ) -> None:
        self._downloads, self._recipient = downloads, recipient
        self._tuning, self._on_progress = tuning, on_progress
        self._state = TransferState(tuning)
        self._todo = list(range(len(downloads)))
        self._threads = _Threads()
        self._begun_anew: set[int] = set()  # shards whose partial file had vanished
        self._accepted_bytes = 0

    def run(self) -> None:
        try:
            waits = self._open_more()  # before there are connections, or the first shard would get them all
            for _ in range(self._tuning.connections):
                self._threads.connections.append(Connection(self._tuning.patience_s))
                self._start(partial(receive, self._state, self._threads.connections[-1]))
            self._start(partial(sync_all, self._state))
            while self._todo or self._state.open:
                self._report(waiting=waits and not self._state.open)
                with contextlib.suppress(queue.Empty):
                    self._handle(self._state.events.get(timeout=_TICK_S))
                self._abort_stalled_reads()
                waits = self._open_more()
            self._report(waiting=False)
        finally:
            self._leave()

    def _open_more(self) -> bool:
        """Open shards whose lock is free. Returns True if another program fetches one."""
        busy = False
        for shard in list(self._todo):
            if len(self._state.open) >= self._tuning.shards_at_once:
                break
            download = self._downloads[shard]
            with ExitStack() as lock:
                if not lock.enter_context(exclusive_if_free(download.lock_path)):
                    busy = True
                    continue
                self._todo.remove(shard)
                if self._recipient.find_locally(download):
                    self._accepted_bytes += download.size_bytes
                    continue
                partial_file = PartialFile(
                    download.partial_path,
                    size_bytes=download.size_bytes,
                    unit_bytes=self._tuning.unit_bytes,
                    identity=download.identity,
                )
                digest = Digest(partial_file, hashes=download.sha256 is not None)
                opened = OpenShard(
                    download=download, partial_file=partial_file, lock=lock.pop_all(), digest=digest
                )
                self._begin(shard, opened)
        return busy

    def _begin(self, shard: int, opened: OpenShard) -> None:
        with self._state.changed:
            self._state.open[shard] = opened
            self._state.schedule.open(shard, opened.download.size_bytes, opened.partial_file.whole)
            generation = self._state.schedule.generation(shard)
            self._state.changed.notify_all()
        self._start(partial(hash_rest, self._state, shard, opened, generation))

    def _handle(self, event: TransferEvent) -> None:
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, ServerBusy):
            words = f"server busy ({event.status})" if event.status else "server busy"
            self._on_progress(remark("pull", f"{words}, trying again in {max(1, round(event.wait_s))} s"))
            return
        opened = self._state.open.get(event.shard)
        if opened is None:  # of a shard that was settled meanwhile
            return
        if isinstance(event, ShardFailed):
            raise self._recipient.explain(opened.download, event.trouble)
        if event.sha256 == opened.download.sha256:
            self._accept(event.shard, opened)
            return
        self._fetch_again(event.shard, opened, event.sha256 or "")

    def _fetch_again(self, shard: int, opened: OpenShard, sha256: str) -> None:
        # once after a wrong sha256; the second time it is an error
        download = opened.download
        opened.partial_file.forget(opened.partial_file.version)
        if opened.second_try:
            raise self._recipient.explain(download, Trouble(kind=TroubleKind.HASH, reason=sha256))
        opened.second_try = True
        should = f"should have {(download.sha256 or '')[:12]}…: it is fetched again"
        text = f"{download.name} arrived with the sha256 {sha256[:12]}…, and {should}"
        self._on_progress(remark("pull", text))
        opened.digest.restart()
        with self._state.changed:
            self._state.schedule.restart(shard)
            generation = self._state.schedule.generation(shard)
            self._state.changed.notify_all()
        self._start(partial(hash_rest, self._state, shard, opened, generation))

    def _accept(self, shard: int, opened: OpenShard) -> None:
        with self._state.changed:
            self._state.schedule.close(shard)
            del self._state.open[shard]
        with opened.lock:
            opened.partial_file.close()
            try:
                self._recipient.accept(opened.download, opened.partial_file)
            except FileNotFoundError:  # its name was removed, and what was written is lost with it
                if shard in self._begun_anew:
                    raise
                self._begun_anew.add(shard)
                self._todo.append(shard)
                text = f"the partial file of {opened.download.name} was removed while it was fetched"
                self._on_progress(remark("pull", text))
                return
        self._accepted_bytes += opened.download.size_bytes

    def _report(self, *, waiting: bool) -> None:
        total = sum(download.size_bytes for download in self._downloads)
        with self._state.changed:
            arrived = {shard: self._state.schedule.arrived(shard) for shard in self._state.open}
        done = self._accepted_bytes + sum(arrived.values())
        text = "another download of the same file is under way" if waiting else ""
        self._on_progress(Step(phase="pull", done=done, total=total, unit="bytes", text=text))
        for shard, n_bytes in arrived.items():
            download = self._downloads[shard]
            size, checked = download.size_bytes, self._state.open[shard].digest.position
            words = f"checking, {checked * 100 // size} %" if size and n_bytes == size else ""
            self._on_progress(
                Step(phase="pull", done=n_bytes, total=size, unit="bytes", file=download.name, text=words)
            )

    def _abort_stalled_reads(self) -> None:
        # what the read has got by then is counted, and judged by `Schedule.crawls`
        latest = time.monotonic() - self._tuning.crawl_window_s
        for connection in self._threads.connections:
            if connection.reading_since is not None and connection.reading_since < latest:
                connection.abort()

    def _leave(self) -> None:
        with self._state.changed:
            self._state.stopped = True
            self._state.changed.notify_all()
        for connection in self._threads.connections:
            connection.abort()
        until = time.monotonic() + _LEAVE_S
        for thread in self._threads.running:
            thread.join(max(0.0, until - time.monotonic()))
        for opened in self._state.open.values():
            with opened.lock:
                with contextlib.suppress(OSError):  # a full disk has been reported already
                    opened.partial_file.sync()
                with contextlib.suppress(OSError):
                    opened.partial_file.close()

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
                self._state.events.put(error)

        thread = threading.Thread(target=guarded, daemon=True, name="transfer")
        alive = [running for running in self._threads.running if running.is_alive()]
        self._threads.running = [*alive, thread]
        thread.start()
