"""The deciding half of a transfer, without sockets, threads or clocks."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.models.transfer.schedule import Schedule, Span
from launcher.models.transfer.tuning import Tuning
from launcher.system.network.policy import wait_after
from launcher.system.network.trouble import Trouble, TroubleKind

SMALL = Tuning(connections=3, span_bytes=40, unit_bytes=10, buffer_bytes=4, worthwhile_bytes=5, attempts=4)
BROKE = Trouble(kind=TroubleKind.BROKE, reason="reset")
BUSY = Trouble(kind=TroubleKind.BUSY, reason="it answered 503")


def take(board: Schedule, now: float = 0.0) -> Span:
    span = board.take(now)
    assert isinstance(span, Span), span
    return span


def opened(size: int, whole: tuple[int, ...] = (), tuning: Tuning = SMALL) -> Schedule:
    board = Schedule(tuning)
    board.open(0, size, whole)
    return board


def test_spans_come_in_file_order_and_skip_what_is_here() -> None:
    board = opened(95, whole=(0, 4))
    spans = [take(board) for _ in range(3)]
    assert [(span.position, span.end) for span in spans] == [(10, 40), (50, 90), (90, 95)]
    assert (board.arrived(0), board.prefix(0)) == (20, 10)


def test_connections_are_bounded_and_shared_among_shards() -> None:
    board = opened(1000)
    board.open(1, 1000)
    assert [take(board).shard for _ in range(3)] == [0, 1, 0]
    assert board.take(0.0) is None


def test_units_become_whole_across_broken_spans() -> None:
    board = opened(40)
    span = take(board)
    assert board.advance(span, 14) == (0,)
    board.fail(span, BROKE, 0.0, 0.5)
    rest = take(board, 100.0)
    assert (rest.position, rest.end) == (14, 40)
    assert board.advance(rest, 26) == (1, 2, 3)
    board.finish(rest)
    assert (board.arrived(0), board.prefix(0), board.take(200.0)) == (40, 40, None)


def test_an_idle_connection_takes_half_of_the_longest_span() -> None:
    board = opened(40)
    span = take(board)
    board.advance(span, 3)
    half = take(board)
    assert [(span.position, span.end), (half.position, half.end)] == [(3, 20), (20, 40)]
    assert board.take(0.0) is None  # too little is left to be worth a third


def test_failures_wait_longer_each_time_and_then_give_up() -> None:
    board, now, waits = opened(40), 0.0, []
    while True:
        span = take(board, now)
        last = board.fail(span, BROKE, now, 0.5)
        if last is not None:
            break
        wait = board.take(now)
        assert isinstance(wait, float)
        waits.append(wait)
        now += wait
    assert (waits, last) == ([0.5, 1.0, 2.0], BROKE)


def test_progress_forgives_failures() -> None:
    board, now = opened(10_000), 0.0
    for _ in range(50):
        span = take(board, now)
        board.synced(0, 10 * len(board.advance(span, 5)))
        assert board.fail(span, BROKE, now, 0.5) is None
        now += 100


def test_connections_that_fail_together_count_once() -> None:
    board = opened(1000)
    spans = [take(board) for _ in range(3)]
    assert [board.fail(span, BROKE, 0.0, 0.5) for span in spans] == [None] * 3
    assert board.take(0.0) == 0.5


def test_a_busy_server_gets_fewer_connections_and_all_wait() -> None:
    board = opened(1000)
    board.open(1, 1000)
    assert board.fail(take(board), replace(BUSY, retry_after_s=7.0), 0.0, 0.5) is None
    assert board.take(0.0) == 7.0
    take(board, 7.0)
    assert board.take(7.0) is None


def test_a_disk_that_lags_is_waited_for() -> None:
    board = opened(1000)
    for _ in range(4):
        span = take(board)
        board.advance(span, 40)
        board.finish(span)
    assert board.take(0.0) is None  # 160 bytes would be lost with the power: more than a span per connection
    board.synced(0, 160)
    assert len([take(board), take(board)]) == 2


def test_while_the_disk_lags_a_little_a_shard_gets_one_connection() -> None:
    board = opened(1000)
    board.open(1, 1000)
    for _ in range(2):
        span = take(board)
        board.advance(span, 40)
        board.finish(span)
    assert [take(board).shard, take(board).shard] == [0, 1]
    assert board.take(0.0) is None
    board.synced(0, 40)
    take(board)


def test_the_disk_is_asked_before_it_lags() -> None:
    """A quarter of what may be lost with the power: 30 of 120 bytes."""
    board = opened(1000)
    span = take(board)
    board.advance(span, 30)
    assert not board.wants_sync()
    board.advance(span, 10)
    assert board.wants_sync()
    board.synced(0, 40)
    assert not board.wants_sync()


def found_without_ranges() -> tuple[Schedule, Span]:
    """Return the schedule of a 100-byte file after two connections found that the server ignores ranges."""
    ignores = Trouble(kind=TroubleKind.IGNORES_RANGES, reason="it ignores ranges")
    board = opened(100)
    first, second, third = (take(board) for _ in range(3))
    board.fail(second, ignores, 0.0, 0.5)
    board.fail(third, ignores, 1.0, 0.5)
    return board, first


def test_a_server_without_ranges_is_asked_for_the_whole_file_by_one_connection() -> None:
    board, first = found_without_ranges()
    assert (first.cancelled, board.arrived(0)) == (True, 0)
    whole = take(board, 10.0)
    assert ((whole.position, whole.end), board.take(10.0)) == ((0, 100), None)
    board.advance(whole, 50)
    board.fail(whole, BROKE, 10.0, 0.5)
    again = take(board, 100.0)
    assert (again.position, board.prefix(0)) == (0, 0)


def test_bytes_of_a_cancelled_span_count_for_nothing() -> None:
    """Its connection was writing them when another one found that the server ignores ranges."""
    board, first = found_without_ranges()
    whole = take(board, 10.0)
    assert board.advance(first, 7) == ()
    assert (board.arrived(0), board.prefix(0)) == (0, 0)
    assert board.advance(whole, 8) == ()
    assert board.advance(whole, 92) == tuple(range(10))
    board.close(0)
    assert board.advance(whole, 1) == ()


def test_what_is_fetched_anew_waits_for_the_disk_once() -> None:
    """Else the count of what waits would never come down, and in the end nothing be handed out."""
    board = opened(400)
    span = take(board)
    board.advance(span, 40)
    assert board.wants_sync()
    board.restart(0)
    assert not board.wants_sync()


def test_a_restart_forgets_everything() -> None:
    board = opened(40)
    span, before = take(board), board.generation(0)
    board.advance(span, 40)
    board.finish(span)
    board.restart(0)
    assert (board.prefix(0), board.arrived(0), take(board).position) == (0, 0, 0)
    assert board.generation(0) > before


def test_a_connection_that_crawls_is_noticed() -> None:
    board = opened(1000, tuning=replace(SMALL, crawl_window_s=30, crawl_bytes=8))
    span = take(board)
    board.advance(span, 8)
    assert [board.crawls(span, now) for now in (29.0, 30.0, 59.0, 60.0)] == [False, False, False, True]


@pytest.mark.parametrize("kind", [TroubleKind.REFUSED, TroubleKind.CHANGED])
def test_what_is_final_is_final_during_a_wait_too(kind: TroubleKind) -> None:
    board = opened(1000)
    first, second = take(board), take(board)
    board.fail(first, BROKE, 0.0, 0.5)
    final = Trouble(kind=kind, reason="it answered 401")
    assert board.fail(second, final, 0.0, 0.5) == final


def test_waits() -> None:
    link = Trouble(kind=TroubleKind.LINK, reason="it answered 403")
    assert [wait_after(link, n, SMALL, 0.5) for n in range(3)] == [0.0, 1.0, None]
    assert wait_after(replace(BUSY, retry_after_s=61.0), 0, SMALL, 0.5) is None
    assert wait_after(replace(BUSY, retry_after_s=60.0), 0, SMALL, 0.5) == 60.0
    many = replace(SMALL, attempts=100)
    assert wait_after(BROKE, 90, many, 0.5) == many.longest_backoff_s


@given(
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=3),
    seed=st.integers(0, 10**6),
    trouble=st.floats(0, 0.4),
)
def test_whatever_happens_every_byte_arrives_and_none_twice(
    sizes: list[int], seed: int, trouble: float
) -> None:
    """Random connections that advance, fail and finish; a byte is fetched once, however spans were cut."""
    dice, board, now = random.Random(seed), Schedule(replace(SMALL, attempts=10**6)), 0.0
    for index, size in enumerate(sizes):
        board.open(index, size)
    got: list[list[int]] = [[0] * size for size in sizes]
    running: list[Span] = []
    while any(board.prefix(index) < size for index, size in enumerate(sizes)):
        taken = board.take(now)
        if isinstance(taken, Span):
            running.append(taken)
        elif not running:
            assert isinstance(taken, float)
            now += taken
        for span in list(running):
            step = min(dice.randint(0, 4), span.end - span.position)
            for at in range(span.position, span.position + step):
                got[span.shard][at] += 1
            units = board.advance(span, step)
            board.synced(span.shard, sum(min(10, sizes[span.shard] - unit * 10) for unit in units))
            if span.position == span.end:
                board.finish(span)
                running.remove(span)
            elif dice.random() < trouble:
                assert board.fail(span, BROKE, now, dice.random()) is None
                running.remove(span)
    assert got == [[1] * size for size in sizes]


def arrived(board: Schedule, n_bytes: int) -> None:
    """Let `n_bytes` arrive, in spans that are taken and finished."""
    while n_bytes:
        span = take(board)
        step = min(n_bytes, span.end - span.position)
        board.advance(span, step)
        board.finish(span)
        n_bytes -= step


@pytest.mark.parametrize(
    ("unsynced", "connections"),
    [(60, 2), (70, 1), (120, 1), (130, 0)],  # of 3 x 40 bytes that a power loss may cost
)
def test_the_more_waits_for_the_disk_the_fewer_connections(unsynced: int, connections: int) -> None:
    board = opened(1000)
    arrived(board, unsynced)
    for _ in range(connections):
        take(board)
    if connections < 2:
        assert board.take(0.0) is None


def test_after_a_busy_answer_each_span_that_arrives_gives_a_connection_back() -> None:
    board, now = opened(1000), 10.0
    board.fail(take(board), replace(BUSY, retry_after_s=7.0), 0.0, 0.5)
    for allowed in (1, 2, 3, 3):
        spans = [take(board, now) for _ in range(allowed)]
        assert board.take(now) is None
        board.synced(0, sum(10 * len(board.advance(span, span.end - span.position)) for span in spans))
        board.finish(spans.pop())
        for span in spans:
            board.fail(span, replace(BROKE, retry_after_s=0.0), now, 0.0)
            now += 100
    assert board.take(now) is not None


def test_a_busy_server_is_not_asked_to_share_a_span_either() -> None:
    board = opened(80, tuning=replace(SMALL, connections=4, span_bytes=80))
    longest, half = take(board), take(board)
    board.advance(half, 40)
    board.fail(half, replace(BUSY, retry_after_s=7.0), 1.0, 0.5)
    assert board.not_before == 8.0
    assert board.take(2.0) == 6.0
    assert take(board, 8.0).end == 40
    assert longest.end == 20


@pytest.mark.parametrize(
    ("size", "border"), [(29, None), (30, 10), (39, 10), (40, 20), (59, 20), (60, 30), (100, 50)]
)
def test_three_units_are_enough_to_share(size: int, border: int | None) -> None:
    board = opened(size, tuning=replace(SMALL, span_bytes=100))
    span, half = take(board), board.take(0.0)
    if border is None:
        assert half is None
    else:
        assert isinstance(half, Span)
        assert (span.end, half.position, half.end) == (border, border, size)


def test_the_span_with_most_left_is_shared() -> None:
    board = opened(40)
    board.open(1, 40)
    first, second = take(board), take(board)
    board.advance(second, 35)
    half = take(board)
    assert (half.shard, half.position, first.end, second.end) == (0, 20, 20, 40)


def test_a_span_that_is_not_wanted_any_more_fails_for_nothing() -> None:
    board, first = found_without_ranges()
    for _ in range(10):
        assert board.fail(first, BROKE, 50.0, 0.5) is None
    whole = take(board, 50.0)
    assert (whole.position, whole.end) == (0, 100)
    board.close(0)
    assert board.fail(whole, Trouble(kind=TroubleKind.REFUSED, reason="it answered 401"), 60.0, 0.5) is None


def test_without_ranges_only_the_whole_file_is_progress() -> None:
    board, _ = found_without_ranges()
    now, tries = 10.0, 0
    last: Trouble | None = None
    while last is None:
        now, tries = now + 100, tries + 1
        whole = take(board, now)
        board.synced(0, 10 * len(board.advance(whole, 90)))
        last = board.fail(whole, BROKE, now, 0.5)
    assert tries < SMALL.attempts
    again, _ = found_without_ranges()
    span = take(again, 10.0)
    again.advance(span, 100)
    again.finish(span)
    assert (again.prefix(0), again.arrived(0)) == (100, 100)


def test_a_word_about_a_shard_that_is_closed_changes_nothing() -> None:
    board = opened(40)
    span = take(board)
    board.close(0)
    board.synced(0, 10)
    board.finish(span)
    assert (span.cancelled, board.take(0.0), board.wants_sync()) == (True, None, False)


def test_more_synced_than_was_waiting_is_nothing_waiting() -> None:
    board = opened(1000)
    arrived(board, 40)
    board.synced(0, 10)
    assert not board.wants_sync()
    board.synced(0, 1000)
    arrived(board, 30)
    assert not board.wants_sync()
    arrived(board, 10)
    assert board.wants_sync()
