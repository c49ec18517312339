"""A gang's life, walked breadth-first: every event in every state that can be reached."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from launcher.deployment.cluster import gang
from launcher.deployment.cluster.gang import Gang, Leave, Phase, advance

SEATS = 2


def events(now: float) -> tuple[gang.Event, ...]:
    return (
        gang.Begun(SEATS, now),
        *(gang.Heard(seat, now, is_ready=ready) for seat in range(SEATS) for ready in (False, True)),
        *(gang.Lost(seat, "why") for seat in range(SEATS)),
        gang.Answered(now),
        gang.Ended(0, now),
        gang.Ended(-6, now),
        gang.StopAsked(),
        gang.Ticked(now),
    )


def shape(state: Gang, now: float) -> tuple[object, ...]:
    """What of a state decides: phases, ranks, and which of its limits are past."""
    return (
        state.phase,
        state.ready,
        len(state.heard),
        tuple(now - at > gang.SILENCE_S for at in state.heard),
        now - state.since > gang.LAST_WORDS_S,
        now - state.since > gang.RAISE_S,
        now - state.answered > gang.UNANSWERED_S,
        now - state.asked >= gang.ASK_S,
        state.status,
    )


def test_every_reachable_state_keeps_the_rules() -> None:
    start = (Gang(), 0.0)
    seen, queue = {shape(*start)}, deque([start])
    leaves = 0
    while queue:
        state, now = queue.popleft()
        for later in (0.0, 1.0, 3.0, 10.0, 61.0, 91.0):
            for event in events(now + later):
                after, effects = advance(state, event)
                serves = sum(isinstance(effect, gang.Serve) for effect in effects)
                left = [effect for effect in effects if isinstance(effect, Leave)]
                # llama-server is started once, when all ranks are ready, and never again in this run
                assert serves == (state.phase is Phase.RAISING and after.phase is Phase.SERVING)
                assert not serves or len(after.ready) == SEATS
                # it is left just when it is over, with nothing else to do, and then for good
                assert bool(left) == (after.phase is Phase.OVER and state.phase is not Phase.OVER)
                assert not left or len(effects) == 1
                assert state.phase is not Phase.OVER or (after, effects) == (state, ())
                leaves += len(left)
                # a loss while it serves is always said, with its seat
                if isinstance(event, gang.Lost) and state.phase in {
                    Phase.RAISING,
                    Phase.SERVING,
                    Phase.EXPLAINING,
                }:
                    assert left == [Leave(status=1, seat=event.seat, why="why")]
                key = shape(after, now + later)
                if key not in seen:
                    seen.add(key)
                    queue.append((after, now + later))
    assert leaves > 100
    assert {key[0] for key in seen} == set(Phase)


def test_time_alone_ends_every_gang_that_nobody_answers() -> None:
    for phase in (Phase.RAISING, Phase.SERVING, Phase.EXPLAINING):
        state, _ = advance(Gang(), gang.Begun(SEATS, 0.0))
        state = replace(state, phase=phase)
        _, (effect,) = advance(state, gang.Ticked(100.0))
        assert isinstance(effect, Leave)


def serving() -> Gang:
    state, _ = advance(Gang(), gang.Begun(SEATS, 0.0))
    for seat in range(SEATS):
        state, _ = advance(state, gang.Heard(seat, 1.0, is_ready=True))
    return state


def test_a_rank_that_is_silent_is_named_and_one_that_answers_is_not() -> None:
    state, _ = advance(serving(), gang.Heard(0, 9.0))

    _, (effect,) = advance(state, gang.Ticked(10.5))

    assert isinstance(effect, Leave)
    assert effect.seat == 1


def test_a_server_that_crashes_waits_for_a_ranks_last_words() -> None:
    state, effects = advance(serving(), gang.Ended(-6, 2.0))
    assert effects == ()

    named, (leave,) = advance(state, gang.Lost(1, "its tunnel ended"))
    assert leave == Leave(status=1, seat=1, why="its tunnel ended")
    assert named.phase is Phase.OVER

    _, (alone,) = advance(state, gang.Ticked(4.5))
    assert alone == Leave(status=-6)


def test_a_server_that_was_asked_to_end_is_no_loss() -> None:
    assert advance(serving(), gang.Ended(0, 2.0))[1] == (Leave(status=0),)
    stopping, _ = advance(serving(), gang.StopAsked())
    assert advance(stopping, gang.Lost(0, "its tunnel ended"))[1] == ()
    assert advance(stopping, gang.Ended(0, 3.0))[1] == (Leave(status=0),)
