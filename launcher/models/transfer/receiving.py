"""What a connection's thread does: take a span from the board, ask for it, write and hash what comes, hand the rest back."""

from __future__ import annotations

import random
import time

from launcher.models.transfer.connection import Connection
from launcher.models.transfer.failures import Trouble, TroubleKind
from launcher.models.transfer.request import RangeAnswer, request_range
from launcher.models.transfer.schedule import Span
from launcher.models.transfer.state import OpenShard, ServerBusy, ShardFailed, TransferState
from launcher.units import KIB

_FIRST_READ = 32 * KIB
_SLOW_READ_S = 0.4


def receive(under_way: TransferState, line: Connection) -> None:
    """Until the transfer stops. Raises OSError of the disk."""
    tuning = under_way.tuning
    buffer = memoryview(bytearray(min(tuning.buffer_bytes, tuning.unit_bytes)))
    try:
        while True:
            with under_way.changed:
                if under_way.stopped:
                    return
                taken = under_way.board.take(time.monotonic())
                if not isinstance(taken, Span):
                    under_way.changed.wait(taken)
                    continue
                opened = under_way.open[taken.shard]
            _settle(under_way, taken, _fetch(under_way, line, taken, opened, buffer))
    finally:
        line.close()


def _settle(under_way: TransferState, span: Span, trouble: Trouble | None) -> None:
    board = under_way.board
    with under_way.changed:
        if trouble is None:
            board.finish(span)
        else:
            now, waited_for = time.monotonic(), board.not_before
            last = board.fail(span, trouble, now, random.random())  # noqa: S311 (jitter)
            if board.not_before > waited_for:
                under_way.events.put(ServerBusy(status=trouble.status, wait_s=board.not_before - now))
            if last is not None and not under_way.stopped:
                under_way.events.put(ShardFailed(shard=span.shard, trouble=last))
        under_way.changed.notify_all()


def _fetch(
    under_way: TransferState, line: Connection, span: Span, opened: OpenShard, buffer: memoryview
) -> Trouble | None:
    link = opened.link
    answer = request_range(line, opened.wanted, link, span.position, span.end)
    with under_way.changed:
        if isinstance(answer, RangeAnswer):
            opened.link = answer.link
            changed = _check_version(under_way, span, opened, answer.version)
            if changed is not None:
                return changed
        elif answer.kind is TroubleKind.LINK and link is not None:
            opened.link = None if opened.link == link else opened.link
            return None  # a link that worked has expired: the span goes back, and no failure is counted
        else:
            return answer
    return _read_body(under_way, answer, span, opened, buffer)


def _check_version(under_way: TransferState, span: Span, opened: OpenShard, found: str) -> Trouble | None:
    """With the lock held. A partial file of another version is begun anew; a change after that is final."""
    known, opened.knows_version = opened.knows_version, True
    if not opened.wanted.pins_version or found == opened.part.version:
        return None
    if known:
        return Trouble(kind=TroubleKind.CHANGED, reason="it changed while it was fetched")
    opened.part.forget(found)
    if under_way.board.arrived(span.shard):
        under_way.board.restart(span.shard)
    return None


def _read_body(
    under_way: TransferState, answer: RangeAnswer, span: Span, opened: OpenShard, buffer: memoryview
) -> Trouble | None:
    """Until the span ends, which may come nearer meanwhile. Raises OSError of the disk only."""
    room = min(_FIRST_READ, len(buffer))
    while not _is_over(under_way, span):
        began = answer.line.reading_since = time.monotonic()
        n_bytes = answer.read_into(buffer[: min(room, span.end - span.position)])
        answer.line.reading_since = None
        if isinstance(n_bytes, Trouble):
            return n_bytes
        if _is_over(under_way, span):
            break
        if not n_bytes:
            return Trouble(kind=TroubleKind.BROKE, reason=f"it broke off at byte {span.position}")
        room = _next_read(room, time.monotonic() - began, len(buffer))
        opened.part.write(buffer[:n_bytes], span.position, lambda: not span.cancelled)
        opened.digest.feed(buffer[:n_bytes], span.position, span.begin)
        if _crawls_after(under_way, span, opened, n_bytes):
            return Trouble(kind=TroubleKind.BROKE, reason="it sends next to nothing")
    return None


def _crawls_after(under_way: TransferState, span: Span, opened: OpenShard, n_bytes: int) -> bool:
    """Count what was written; whether the connection is too slow to be worth it."""
    with under_way.changed:
        units = under_way.board.advance(span, n_bytes)
        if units:
            opened.part.mark(units)
            under_way.changed.notify_all()
        return under_way.board.crawls(span, time.monotonic())


def _is_over(under_way: TransferState, span: Span) -> bool:
    return under_way.stopped or span.cancelled or span.position >= span.end


def _next_read(room: int, took_s: float, most: int) -> int:
    """How much to ask of a connection at once. A read returns when it has all of it, so on a slow one little is asked:
    what a broken read had got is lost, and progress is to be seen."""
    if took_s > _SLOW_READ_S:
        return max(room // 2, min(_FIRST_READ, most))
    return min(room * 2, most) if took_s < _SLOW_READ_S / 4 else room
