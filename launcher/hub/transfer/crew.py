"""The threads of a transfer: connections that fetch and hash, one that syncs, one per shard that hashes what arrived out
of order.

The calling thread opens shards, takes the finished ones in and reports, so that Ctrl-C is raised there; leaving
stops all threads and keeps what has arrived. What to do next is the `Board`'s to say.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from launcher.affinity import usable_cpus
from launcher.hub.transfer.asking import Answer, ask
from launcher.hub.transfer.board import Board, Span
from launcher.hub.transfer.digest import Digest
from launcher.hub.transfer.line import Line
from launcher.hub.transfer.part import Part
from launcher.hub.transfer.trouble import Trouble, TroubleKind
from launcher.hub.transfer.tuning import Tuning, connections_for
from launcher.hub.transfer.wanted import Desk, Wanted
from launcher.locks import exclusive_if_free
from launcher.progress import OnProgress, Step, remark
from launcher.units import KIB

_TICK_S = 0.2
_SYNC_EVERY_S = 1.0
_LEAVE_S = 3.0  # for threads to end; one that hangs in a name lookup is left behind
_FIRST_READ = 32 * KIB
_SLOW_READ_S = 0.4


@dataclass(slots=True, kw_only=True)
class _Open:
    wanted: Wanted
    part: Part
    held: ExitStack
    digest: Digest
    link: str | None = None
    retried: bool = False
    knows_version: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    shard: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _GaveUp:
    shard: int
    trouble: Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class _Busy:
    """The server is asked again after `wait_s`."""

    status: int | None
    wait_s: float


_Event = _Whole | _GaveUp | _Busy | BaseException


@dataclass(slots=True)
class _Threads:
    running: list[threading.Thread] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def tuning_here() -> Tuning:
    """For the cores that this process may use."""
    return Tuning(connections=connections_for(len(usable_cpus())))


def fetch_all(wanted: Sequence[Wanted], desk: Desk, tuning: Tuning, on_progress: OnProgress) -> None:
    """Fetch the files, several at once. Returns when all are accepted.

    Raises what `desk` explains and OSError of the disk; on any way out, what has arrived stays for the next time.
    """
    if wanted:
        _Crew(wanted, desk, tuning, on_progress).run()


class _Crew:
    def __init__(self, wanted: Sequence[Wanted], desk: Desk, tuning: Tuning, on_progress: OnProgress) -> None:
        self._wanted, self._desk, self._tuning, self._on_progress = wanted, desk, tuning, on_progress
        self._board = Board(tuning)
        self._changed = threading.Condition()  # guards the board, the open shards' fields and `_stopped`
        self._stopped = False
        self._open: dict[int, _Open] = {}
        self._todo = list(range(len(wanted)))
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._threads = _Threads()
        self._accepted = 0

    def run(self) -> None:
        try:
            waits = self._open_more()  # before there are connections, or the first shard would get them all
            for _ in range(self._tuning.connections):
                self._threads.lines.append(Line(self._tuning.patience_s))
                self._start(self._connection, self._threads.lines[-1])
            self._start(self._syncer)
            while self._todo or self._open:
                self._report(waiting=waits and not self._open)
                with contextlib.suppress(queue.Empty):
                    self._handle(self._events.get(timeout=_TICK_S))
                self._break_standing()
                waits = self._open_more()
            self._report(waiting=False)
        finally:
            self._leave()

    # In the calling thread.

    def _open_more(self) -> bool:
        """Open shards whose lock is free, as many as may be at once; whether others are fetching one."""
        busy = False
        for shard in list(self._todo):
            if len(self._open) >= self._tuning.shards_at_once:
                break
            wanted = self._wanted[shard]
            with ExitStack() as held:
                if not held.enter_context(exclusive_if_free(wanted.lock)):
                    busy = True
                    continue
                self._todo.remove(shard)
                if self._desk.find(wanted):
                    self._accepted += wanted.size_bytes
                    continue
                part = Part(
                    wanted.part,
                    size_bytes=wanted.size_bytes,
                    unit_bytes=self._tuning.unit_bytes,
                    identity=wanted.identity,
                )
                digest = Digest(part, hashes=wanted.sha256 is not None)
                self._begin(shard, _Open(wanted=wanted, part=part, held=held.pop_all(), digest=digest))
        return busy

    def _begin(self, shard: int, opened: _Open) -> None:
        with self._changed:
            self._open[shard] = opened
            self._board.open(shard, opened.wanted.size_bytes, opened.part.whole)
            generation = self._board.generation(shard)
            self._changed.notify_all()
        self._start(self._hasher, shard, opened, generation)

    def _handle(self, event: _Event) -> None:
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, _Busy):
            words = f"server busy ({event.status})" if event.status else "server busy"
            self._on_progress(remark("pull", f"{words}, trying again in {max(1, round(event.wait_s))} s"))
            return
        opened = self._open.get(event.shard)
        if opened is None:  # of a shard that was settled meanwhile
            return
        if isinstance(event, _GaveUp):
            raise self._desk.explain(opened.wanted, event.trouble)
        if event.sha256 == opened.wanted.sha256:
            self._take_in(event.shard, opened)
            return
        opened.part.forget(opened.part.version)
        if opened.retried:
            wrong = Trouble(kind=TroubleKind.HASH, reason=event.sha256 or "")
            raise self._desk.explain(opened.wanted, wrong)
        opened.retried = True
        arrived = f"{opened.wanted.name} arrived with the sha256 {(event.sha256 or '')[:12]}…"
        self._on_progress(
            remark(
                "pull",
                f"{arrived}, and should have {(opened.wanted.sha256 or '')[:12]}…: it is fetched again",
            )
        )
        opened.digest.anew()
        with self._changed:
            self._board.restart(event.shard)
            generation = self._board.generation(event.shard)
            self._changed.notify_all()
        self._start(self._hasher, event.shard, opened, generation)

    def _take_in(self, shard: int, opened: _Open) -> None:
        with self._changed:
            self._board.close(shard)
            del self._open[shard]
        self._accepted += opened.wanted.size_bytes
        with opened.held:
            opened.part.close()
            self._desk.accept(opened.wanted, opened.part)

    def _report(self, *, waiting: bool) -> None:
        total = sum(one.size_bytes for one in self._wanted)
        with self._changed:
            here = {shard: self._board.arrived(shard) for shard in self._open}
        done = self._accepted + sum(here.values())
        text = "another download of the same file is under way" if waiting else ""
        self._on_progress(Step(phase="pull", done=done, total=total, unit="bytes", text=text))
        for shard, n_bytes in here.items():
            wanted = self._wanted[shard]
            size, checked = wanted.size_bytes, self._open[shard].digest.position
            words = f"checking, {checked * 100 // size} %" if size and n_bytes == size else ""
            self._on_progress(
                Step(phase="pull", done=n_bytes, total=size, unit="bytes", part=wanted.name, text=words)
            )

    def _break_standing(self) -> None:
        """End connections with a read that takes too long: what it has got by then is looked at by `Board.crawls`."""
        latest = time.monotonic() - self._tuning.crawl_window_s
        for line in self._threads.lines:
            if line.reading_since is not None and line.reading_since < latest:
                line.abort()

    def _leave(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for line in self._threads.lines:
            line.abort()
        until = time.monotonic() + _LEAVE_S
        for thread in self._threads.running:
            thread.join(max(0.0, until - time.monotonic()))
        for opened in self._open.values():
            with opened.held, contextlib.suppress(OSError):  # a full disk has been said already
                opened.part.sync()
                opened.part.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=self._guarded, args=(work, *arguments), daemon=True, name="transfer")
        self._threads.running = [one for one in self._threads.running if one.is_alive()] + [thread]
        thread.start()

    def _guarded(self, work: object, *arguments: object) -> None:
        assert callable(work)  # noqa: S101 (for mypy: threads take any callable)
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 (raised again in the calling thread)
            self._events.put(error)

    # In threads of their own.

    def _connection(self, line: Line) -> None:
        buffer = memoryview(bytearray(min(self._tuning.buffer_bytes, self._tuning.unit_bytes)))
        try:
            while True:
                with self._changed:
                    if self._stopped:
                        return
                    taken = self._board.take(time.monotonic())
                    if not isinstance(taken, Span):
                        self._changed.wait(taken)
                        continue
                    opened = self._open[taken.shard]
                self._settle(taken, self._fetch(line, taken, opened, buffer))
        finally:
            line.close()

    def _settle(self, span: Span, trouble: Trouble | None) -> None:
        with self._changed:
            if trouble is None:
                self._board.finish(span)
            else:
                now, waited_for = time.monotonic(), self._board.not_before
                last = self._board.fail(span, trouble, now, random.random())  # noqa: S311 (jitter)
                if self._board.not_before > waited_for:
                    self._events.put(_Busy(status=trouble.status, wait_s=self._board.not_before - now))
                if last is not None and not self._stopped:
                    self._events.put(_GaveUp(shard=span.shard, trouble=last))
            self._changed.notify_all()

    def _fetch(self, line: Line, span: Span, opened: _Open, buffer: memoryview) -> Trouble | None:
        link = opened.link
        answer = ask(line, opened.wanted, link, span.position, span.end)
        with self._changed:
            if isinstance(answer, Answer):
                opened.link = answer.link
                changed = self._check_version(span, opened, answer.version)
                if changed is not None:
                    return changed
            elif answer.kind is TroubleKind.LINK and link is not None:
                opened.link = None if opened.link == link else opened.link
                return None  # a link that worked has expired: the span goes back, and no failure is counted
            else:
                return answer
        return self._receive(answer, span, opened, buffer)

    def _check_version(self, span: Span, opened: _Open, found: str) -> Trouble | None:
        """With the lock held. A partial file of another version is begun anew; a change after that is final."""
        known, opened.knows_version = opened.knows_version, True
        if not opened.wanted.pins_version or found == opened.part.version:
            return None
        if known:
            return Trouble(kind=TroubleKind.CHANGED, reason="it changed while it was fetched")
        opened.part.forget(found)
        if self._board.arrived(span.shard):
            self._board.restart(span.shard)
        return None

    def _receive(self, answer: Answer, span: Span, opened: _Open, buffer: memoryview) -> Trouble | None:
        """Until the span ends, which may come nearer meanwhile. Raises OSError of the disk only."""
        room = min(_FIRST_READ, len(buffer))
        while not self._is_over(span):
            began = answer.line.reading_since = time.monotonic()
            n_bytes = answer.read_into(buffer[: min(room, span.end - span.position)])
            answer.line.reading_since = None
            if isinstance(n_bytes, Trouble):
                return n_bytes
            if self._is_over(span):
                break
            if not n_bytes:
                return Trouble(kind=TroubleKind.BROKE, reason=f"it broke off at byte {span.position}")
            room = _next_read(room, time.monotonic() - began, len(buffer))
            opened.part.write(buffer[:n_bytes], span.position)
            opened.digest.feed(buffer[:n_bytes], span.position, span.begin)
            with self._changed:
                units = self._board.advance(span, n_bytes)
                crawls = self._board.crawls(span, time.monotonic())
                if units:
                    opened.part.mark(units)
                    self._changed.notify_all()
            if crawls:
                return Trouble(kind=TroubleKind.BROKE, reason="it sends next to nothing")
        return None

    def _is_over(self, span: Span) -> bool:
        return self._stopped or span.cancelled or span.position >= span.end

    def _syncer(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._board.wants_sync(), _SYNC_EVERY_S)
                if self._stopped:
                    return
                opened = list(self._open.items())
            for shard, one in opened:
                self._sync(shard, one.part)

    def _sync(self, shard: int, part: Part) -> None:
        n_bytes = part.sync()
        if n_bytes:
            with self._changed:
                self._board.synced(shard, n_bytes)
                self._changed.notify_all()

    def _hasher(self, shard: int, opened: _Open, generation: int) -> None:
        """Follow what is here without a gap and was not hashed as it arrived; then the shard is whole."""
        digest, size = opened.digest, opened.wanted.size_bytes
        while True:
            with self._changed:
                while (
                    not self._stopped
                    and self._board.generation(shard) == generation
                    and self._board.prefix(shard) <= min(digest.position, size - 1)
                ):
                    self._changed.wait()
                if self._stopped:
                    return
                prefix, now = self._board.prefix(shard), self._board.generation(shard)
            if now != generation:
                digest.anew()
                generation = now
            elif digest.position < prefix:
                digest.follow(prefix)
            elif prefix >= size:
                break
        self._sync(shard, opened.part)
        self._events.put(_Whole(shard=shard, sha256=digest.hexdigest()))


def _next_read(room: int, took_s: float, most: int) -> int:
    """How much to ask of a connection at once. A read returns when it has all of it, so on a slow one little is asked:
    what a broken read had got is lost, and progress is to be seen."""
    if took_s > _SLOW_READ_S:
        return max(room // 2, min(_FIRST_READ, most))
    return min(room * 2, most) if took_s < _SLOW_READ_S / 4 else room
