"""A connection's thread: take a span, ask for it, write and hash what comes."""

from __future__ import annotations

import random
import time

from launcher.models.transfer.request import request_range
from launcher.models.transfer.schedule import Span
from launcher.models.transfer.state import OpenShard, ServerBusy, ShardFailed, TransferState
from launcher.system.network.connection import Connection
from launcher.system.network.request import Answer
from launcher.system.network.trouble import Trouble, TroubleKind
from launcher.units import KIB

_FIRST_READ = 32 * KIB
_SLOW_READ_S = 0.4


def receive(state: TransferState, connection: Connection) -> None:
    """Fetch spans until the transfer stops. Raises OSError of the disk."""
    tuning = state.tuning
    buffer = memoryview(bytearray(min(tuning.buffer_bytes, tuning.unit_bytes)))
    try:
        while True:
            with state.changed:
                if state.stopped:
                    return
                span = state.schedule.take(time.monotonic())
                if not isinstance(span, Span):
                    state.changed.wait(span)
                    continue
                opened = state.open[span.shard]
            _settle(state, span, _fetch(state, connection, span, opened, buffer))
    finally:
        connection.close()


def _settle(state: TransferState, span: Span, trouble: Trouble | None) -> None:
    schedule = state.schedule
    with state.changed:
        if trouble is None:
            schedule.finish(span)
        else:
            now, waited_for = time.monotonic(), schedule.not_before
            last = schedule.fail(span, trouble, now, random.random())  # noqa: S311 (jitter)
            if schedule.not_before > waited_for:
                state.events.put(ServerBusy(status=trouble.status, wait_s=schedule.not_before - now))
            if last is not None and not state.stopped:
                state.events.put(ShardFailed(shard=span.shard, trouble=last))
        state.changed.notify_all()


def _fetch(
    state: TransferState, connection: Connection, span: Span, opened: OpenShard, buffer: memoryview
) -> Trouble | None:
    link = opened.redirected_to
    answer = request_range(connection, opened.download, link, span.position, span.end)
    with state.changed:
        if isinstance(answer, Answer):
            opened.redirected_to = answer.link
            changed = _check_version(state, span, opened, answer.head.version)
            if changed is not None:
                return changed
        elif answer.kind is TroubleKind.LINK and link is not None:
            # a link that worked has expired: the span goes back, and no failure is counted
            opened.redirected_to = None if opened.redirected_to == link else opened.redirected_to
            return None
        else:
            return answer
    return _read_body(state, answer, span, opened, buffer)


def _check_version(state: TransferState, span: Span, opened: OpenShard, version: str) -> Trouble | None:
    """Begin a partial file of another version anew; return trouble for a change during the transfer."""
    # the caller holds `state.changed`
    known, opened.knows_version = opened.knows_version, True
    if not opened.download.pins_version or version == opened.partial_file.version:
        return None
    if known:
        return Trouble(kind=TroubleKind.CHANGED, reason="it changed while it was fetched")
    opened.partial_file.forget(version)
    if state.schedule.arrived(span.shard):
        state.schedule.restart(span.shard)
    return None


def _read_body(
    state: TransferState, answer: Answer, span: Span, opened: OpenShard, buffer: memoryview
) -> Trouble | None:
    """Write and hash the body until the span ends. Raises OSError of the disk only."""
    n_read = min(_FIRST_READ, len(buffer))
    while not _is_over(state, span):  # asked each time: the span's end may come nearer
        began = time.monotonic()
        n_bytes = answer.read_into(buffer[: min(n_read, span.end - span.position)])
        if isinstance(n_bytes, Trouble):
            return n_bytes
        if _is_over(state, span):
            break
        if not n_bytes:
            return Trouble(kind=TroubleKind.BROKE, reason=f"it broke off at byte {span.position}")
        n_read = _next_read(n_read, time.monotonic() - began, len(buffer))
        opened.partial_file.write(buffer[:n_bytes], span.position, lambda: not span.cancelled)
        opened.digest.feed(buffer[:n_bytes], span.position, span.begin)
        if _crawls_after(state, span, opened, n_bytes):
            return Trouble(kind=TroubleKind.BROKE, reason="it sends next to nothing")
    return None


def _crawls_after(state: TransferState, span: Span, opened: OpenShard, n_bytes: int) -> bool:
    """Count written bytes; return True if the connection is too slow."""
    with state.changed:
        units = state.schedule.advance(span, n_bytes)
        if units:
            opened.partial_file.mark(units)
            state.changed.notify_all()
        return state.schedule.crawls(span, time.monotonic())


def _is_over(state: TransferState, span: Span) -> bool:
    return state.stopped or span.cancelled or span.position >= span.end


def _next_read(n_read: int, took_s: float, most: int) -> int:
    """Return how many bytes to read at once after a read of `n_read` that took `took_s`."""
    # A read returns only when it has all of them, so a slow connection is asked for little: what a broken
    # read had got is lost, and progress is to be seen.
    if took_s > _SLOW_READ_S:
        return max(n_read // 2, min(_FIRST_READ, most))
    return min(n_read * 2, most) if took_s < _SLOW_READ_S / 4 else n_read
