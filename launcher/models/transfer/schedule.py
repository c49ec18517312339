"""Decide which bytes to ask for next, and what a failure leads to. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from launcher.models.transfer.tuning import Tuning
from launcher.system.network.policy import wait_after
from launcher.system.network.trouble import Trouble, TroubleKind


@dataclass(slots=True, eq=False, kw_only=True)
class Span:
    """Bytes [position, end) of a shard that one connection is fetching."""

    shard: int
    position: int
    end: int  # may come nearer while it is fetched
    begin: int
    checked_at: float  # when `crawls` last looked, and at which position
    checked_bytes: int = 0
    cancelled: bool = False  # its bytes are not wanted any more


@dataclass(slots=True, kw_only=True)
class _Shard:
    size: int
    gaps: list[tuple[int, int]]  # not arrived and not under way, in file order
    counts: dict[int, int] = field(default_factory=dict)  # bytes here of units that are not whole
    whole: set[int] = field(default_factory=set)
    first_missing: int = 0  # the first unit that is not whole
    under_way: list[Span] = field(default_factory=list)
    arrived: int = 0
    unsynced: int = 0  # bytes of whole units that are not on the disk for good
    barren: int = 0  # failures in a row without worthwhile bytes
    not_before: float = 0.0
    in_one: bool = False  # the server ignores ranges: one request from the start
    generation: int = 0  # changes when bytes that were here are fetched again


class Schedule:
    """Bytes of all shards: here, under way, missing. Not safe for threads."""

    # A shard is fetched in spans, each one ranged request on one connection, handed out in file order so that
    # the sha256 can follow close behind. What has arrived is counted in units, as in the journal. A span that
    # fails goes back with what it lacks. Clock and dice are given.

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._shards: dict[int, _Shard] = {}
        self._allowed = tuning.connections
        self._not_before = 0.0

    def open(self, shard: int, size: int, whole: Collection[int] = ()) -> None:
        """Begin to hand out spans of `shard`, whose units `whole` are here."""
        self._shards[shard] = _Shard(size=size, gaps=[])
        self._lay_out(self._shards[shard], set(whole))

    def close(self, shard: int) -> None:
        """Cancel what is under way of the shard, and hand out no more of it."""
        for span in self._shards.pop(shard).under_way:
            span.cancelled = True

    def take(self, now: float) -> Span | float | None:
        """Return a span to fetch, the seconds to wait for one, or None: until something else happens."""
        if sum(len(shard.under_way) for shard in self._shards.values()) >= self._allowed:
            return None
        limit = self._tuning.connections * self._tuning.span_bytes
        unsynced = self._unsynced()
        if unsynced > limit:
            return None  # the disk lags: more would be lost with the power than a span per connection
        disk_lags = unsynced > limit // 2  # the disk is the bottleneck: one connection a shard
        waiting = [
            (max(shard.not_before, self._not_before), index)
            for index, shard in self._with_gaps()
            if not (disk_lags and shard.under_way)
        ]
        ready = [index for at, index in waiting if at <= now]
        if ready:
            return self._hand_out(
                min(ready, key=lambda index: (len(self._shards[index].under_way), index)), now
            )
        if waiting:
            return min(waiting)[0] - now
        if disk_lags:
            return None
        return self._split_longest(now) if now >= self._not_before else self._not_before - now

    def advance(self, span: Span, n_bytes: int) -> tuple[int, ...]:
        """Count `n_bytes` of the span as written; return the units that became whole."""
        shard = self._shards.get(span.shard)
        if shard is None or span.cancelled:  # another connection fetches these bytes
            return ()
        unit_bytes = self._tuning.unit_bytes
        whole: list[int] = []
        shard.arrived += n_bytes
        while n_bytes:
            unit = span.position // unit_bytes
            step = min(n_bytes, (unit + 1) * unit_bytes - span.position)
            shard.counts[unit] = shard.counts.get(unit, 0) + step
            if shard.counts[unit] == self._unit_size(shard, unit):
                del shard.counts[unit]
                shard.whole.add(unit)
                whole.append(unit)
                shard.unsynced += self._unit_size(shard, unit)
            span.position += step
            n_bytes -= step
        while shard.first_missing in shard.whole:
            shard.first_missing += 1
        return tuple(whole)

    def wants_sync(self) -> bool:
        return self._unsynced() > self._tuning.connections * self._tuning.span_bytes // 4

    def synced(self, shard: int, n_bytes: int) -> None:
        state = self._shards.get(shard)
        if state is not None:
            state.unsynced = max(0, state.unsynced - n_bytes)

    def crawls(self, span: Span, now: float) -> bool:
        """Return True if the span got fewer than `crawl_bytes` in the last window."""
        if now - span.checked_at < self._tuning.crawl_window_s:
            return False
        crawls = span.position - span.checked_bytes < self._tuning.crawl_bytes
        span.checked_at, span.checked_bytes = now, span.position
        return crawls

    def finish(self, span: Span) -> None:
        """Take the span back; what it lacks is handed out again."""
        shard = self._shards.get(span.shard)
        if shard is None or span.cancelled:
            return
        shard.under_way.remove(span)
        complete = span.position >= span.end
        if complete:
            self._allowed = min(self._tuning.connections, self._allowed + 1)
        elif shard.in_one:
            self._lay_out(shard, set())
        else:
            shard.gaps = sorted([*shard.gaps, (span.position, span.end)])
        worthwhile = span.position - span.begin >= self._tuning.worthwhile_bytes and not shard.in_one
        if complete or worthwhile:
            shard.barren = 0

    def fail(self, span: Span, trouble: Trouble, now: float, dice: float) -> Trouble | None:
        """Take the span back after trouble; return None to go on later, or the trouble to give up with."""
        self.finish(span)
        shard = self._shards.get(span.shard)
        if shard is None or span.cancelled:
            return None
        if trouble.kind is TroubleKind.IGNORES_RANGES and shard.barren and not shard.in_one:
            self._fetch_in_one(shard)
            return None
        # several connections that fail together count as one failure
        if not trouble.is_final and now < max(shard.not_before, self._not_before):
            return None
        wait = wait_after(trouble, shard.barren, self._tuning, dice)
        if wait is None:
            return trouble
        shard.barren += 1
        shard.not_before = now + wait
        if trouble.kind is TroubleKind.BUSY:  # of the server: for all its shards, and with fewer at once
            self._not_before = shard.not_before
            self._allowed = max(1, self._allowed // 2)
        return None

    @property
    def not_before(self) -> float:
        """When a busy server is asked again, on the clock of `now`."""
        return self._not_before

    def restart(self, shard: int) -> None:
        # its bytes were wrong
        state = self._shards[shard]
        for span in state.under_way:
            span.cancelled = True
        state.under_way.clear()
        self._lay_out(state, set())

    def generation(self, shard: int) -> int:
        return self._shards[shard].generation

    def arrived(self, shard: int) -> int:
        return self._shards[shard].arrived

    def prefix(self, shard: int) -> int:
        """Return how many bytes from the start are here without a gap, in whole units."""
        state = self._shards[shard]
        return min(state.first_missing * self._tuning.unit_bytes, state.size)

    def _unsynced(self) -> int:
        return sum(shard.unsynced for shard in self._shards.values())

    def _with_gaps(self) -> list[tuple[int, _Shard]]:
        return [
            (index, shard)
            for index, shard in self._shards.items()
            if shard.gaps and not (shard.in_one and shard.under_way)
        ]

    def _hand_out(self, index: int, now: float) -> Span:
        shard = self._shards[index]
        begin, end = shard.gaps.pop(0)
        cut = end if shard.in_one else min(end, begin + self._tuning.span_bytes)
        if cut < end:
            cut -= cut % self._tuning.unit_bytes
            shard.gaps.insert(0, (cut, end))
        return self._start(index, begin, cut, now)

    def _start(self, index: int, begin: int, end: int, now: float) -> Span:
        span = Span(shard=index, begin=begin, position=begin, end=end, checked_at=now, checked_bytes=begin)
        self._shards[index].under_way.append(span)
        return span

    def _split_longest(self, now: float) -> Span | None:
        # a connection without work takes half of the longest span, cut at a unit's border
        unit = self._tuning.unit_bytes
        spans = [span for shard in self._shards.values() if not shard.in_one for span in shard.under_way]
        longest = max(spans, key=lambda span: span.end - span.position, default=None)
        # at least three units, so that the border is far enough ahead of its connection
        if longest is None or longest.end - longest.position < 3 * unit:
            return None
        middle = (longest.position + longest.end) // 2 // unit * unit
        end, longest.end = longest.end, middle
        return self._start(longest.shard, middle, end, now)

    def _fetch_in_one(self, shard: _Shard) -> None:
        # the server ignores ranges: one request from the start
        for span in shard.under_way:
            span.cancelled = True
        shard.under_way.clear()
        shard.in_one = True
        self._lay_out(shard, set())

    def _lay_out(self, shard: _Shard, whole: set[int]) -> None:
        unit_bytes = self._tuning.unit_bytes
        shard.whole, shard.counts, shard.first_missing = whole, {}, 0
        shard.generation += 1
        shard.gaps = []
        shard.arrived = shard.unsynced = 0
        for unit in range(-(-shard.size // unit_bytes)):
            begin, end = unit * unit_bytes, min((unit + 1) * unit_bytes, shard.size)
            if unit in whole:
                shard.arrived += end - begin
            elif shard.gaps and shard.gaps[-1][1] == begin:
                shard.gaps[-1] = (shard.gaps[-1][0], end)
            else:
                shard.gaps.append((begin, end))
        while shard.first_missing in whole:
            shard.first_missing += 1

    def _unit_size(self, shard: _Shard, unit: int) -> int:
        return min((unit + 1) * self._tuning.unit_bytes, shard.size) - unit * self._tuning.unit_bytes
