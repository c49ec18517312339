"""The lifecycle, driven breadth-first through everything its surroundings can do to it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import pytest

from launcher.deployment.supervisor.lifecycle import (
    Answered,
    Arm,
    AskExit,
    CheckHealth,
    Effect,
    Elapsed,
    Event,
    Exited,
    HealthChecked,
    Kill,
    Leave,
    Lifecycle,
    NotSpawned,
    Policy,
    Spawn,
    Spawned,
    Start,
    State,
    Stop,
    Timer,
    Unfit,
    Watch,
    advance,
    pause_s,
)

LIVE = frozenset({State.STARTING, State.READY, State.DEGRADED, State.STOPPING})
KEEP = Policy(keep_up=True)


@dataclass(frozen=True)
class World:
    """A life and its surroundings: children that really live, questions not answered yet, timers that may
    still fire (armed or long forgotten), and whether the supervisor has left. What was asked about one child
    is not answered once there is another: the supervisor drops that.
    """

    life: Lifecycle
    children: int = 0
    spawning: bool = False
    watching: bool = False
    checking: bool = False
    timers: frozenset[tuple[Timer, int]] = frozenset()
    began: bool = False
    left: bool = False

    def key(self) -> object:
        """Return what tells two worlds apart: all but the numbers of generations and times."""
        age = {generation: self.life.generation - generation for _, generation in self.timers}
        return (
            self.life.state,
            self.life.child,
            self.life.condemned,
            self.life.was_ready,
            len(self.life.crashes),
            tuple(timer for timer, _ in self.life.timers),
            self.children,
            self.spawning,
            self.watching,
            self.checking,
            self.began,
            self.left,
            frozenset((timer, min(age[generation], 2)) for timer, generation in self.timers),
        )


def possible(world: World, now: float) -> list[Event]:
    """Everything that can happen next; what answers nothing, and what comes late, included."""
    events: list[Event] = [Start(), Start(was_ready=True), Stop()]
    if world.spawning:
        events += [Spawned(), NotSpawned(now), NotSpawned(now + 1000)]
    if world.children:
        events += [Exited(now), Exited(now + 1000)]
    if world.watching:
        events += [Answered(), Unfit()]
    if world.checking:
        events += [HealthChecked(True), HealthChecked(False)]
    events += [Elapsed(timer, generation) for timer, generation in world.timers]
    return events


def after(world: World, event: Event, policy: Policy) -> World:
    """Return the world after `event`; assert what must hold of every effect."""
    match event:
        case Start():
            world = replace(world, began=True)
        case Spawned():
            world = replace(world, spawning=False, children=world.children + 1)
        case NotSpawned():
            world = replace(world, spawning=False)
        case Exited():
            world = replace(world, children=world.children - 1)
        case HealthChecked():
            world = replace(world, checking=False)
        case Elapsed(timer, generation):
            world = replace(world, timers=world.timers - {(timer, generation)})
        case _:
            pass
    life, effects = advance(world.life, event, policy)
    world = replace(world, life=life)
    for effect in effects:
        world = done(world, effect)
    return world


def done(world: World, effect: Effect) -> World:
    match effect:
        case Spawn():
            assert not world.children, "a second child"
            assert not world.spawning, "a second start while one is under way"
            return replace(world, spawning=True, watching=False, checking=False)
        case Watch():
            return replace(world, watching=True)
        case CheckHealth():
            assert not world.checking
            return replace(world, checking=True)
        case AskExit() | Kill():
            assert world.children, "nobody there to end"
            return world
        case Arm(timer, generation, after_s):
            assert after_s > 0
            assert (timer, generation) not in world.timers, "a generation used twice"
            recent = sorted({*world.timers, (timer, generation)}, key=lambda each: -each[1])[:2]
            return replace(world, timers=frozenset(recent))
        case Leave():
            assert not world.left
            return replace(world, left=True)


def explore(policy: Policy) -> dict[object, World]:
    start = World(life=Lifecycle())
    seen: dict[object, World] = {start.key(): start}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        now = world.life.crashes[-1] if world.life.crashes else 0.0
        for event in [] if world.left else possible(world, now):
            reached = after(world, event, policy)
            check(reached, policy)
            if reached.key() not in seen:
                seen[reached.key()] = reached
                queue.append(reached)
    return seen


def check(world: World, policy: Policy) -> None:
    """Assert what holds in every world."""
    life = world.life
    assert life.child == bool(world.children), "the life knows of another child than there is"
    assert world.children <= 1
    assert not life.child or life.state in LIVE
    assert not life.condemned or (life.child and life.state in {State.STARTING, State.STOPPING})
    assert world.left == (life.state in {State.STOPPED, State.FAILED} and world.began)
    assert len(life.timers) <= 1
    assert len(life.crashes) <= policy.max_restarts + 1
    match life.state:
        case State.BACKOFF:
            assert [timer for timer, _ in life.timers] == [Timer.RESTART]
        case State.STOPPING:
            waits_for_the_kill = not world.spawning and not life.timers
            assert world.spawning or waits_for_the_kill or life.timers[0][0] is Timer.GRACE
        case State.READY | State.DEGRADED:
            assert world.checking or [timer for timer, _ in life.timers] == [Timer.CHECK]
        case _:
            assert life.timers == ()


@pytest.mark.parametrize("policy", [KEEP, Policy(keep_up=False)], ids=["kept up", "left alone"])
def test_every_reachable_world_is_sound(policy: Policy) -> None:
    worlds = explore(policy).values()
    reached = {world.life.state for world in worlds}
    assert reached == set(State) - (set() if policy.keep_up else {State.BACKOFF})
    assert len(worlds) > 30


@pytest.mark.parametrize("policy", [KEEP, Policy(keep_up=False)], ids=["kept up", "left alone"])
def test_from_everywhere_a_stop_ends_it(policy: Policy) -> None:
    """Whatever has happened: a stop, the answers that are due, and the time of grace leave nothing."""
    for world in explore(policy).values():
        if not world.began:
            continue
        ended = after(world, Stop(), policy) if not world.left else world
        if ended.spawning and not ended.left:
            ended = after(ended, Spawned(), policy)
        if ended.children:
            assert ended.life.state is State.STOPPING
            ended = after(ended, Exited(0.0), policy)
        assert ended.left
        assert ended.children == 0


def run(*events: Event, policy: Policy = KEEP) -> tuple[Lifecycle, tuple[Effect, ...]]:
    life, effects = Lifecycle(), ()
    for event in events:
        life, effects = advance(life, event, policy)
    return life, effects


UP: tuple[Event, ...] = (Start(), Spawned(), Answered())


def test_a_first_load_that_fails_is_not_tried_again() -> None:
    life, effects = run(Start(), Spawned(), Exited(1.0))
    assert (life.state, effects) == (State.FAILED, (Leave(),))


def test_a_ready_one_that_dies_comes_back_after_a_pause() -> None:
    life, effects = run(*UP, Exited(5.0))
    assert (life.state, effects) == (State.BACKOFF, (Arm(Timer.RESTART, 2, 1.0),))
    life, effects = advance(life, Elapsed(Timer.RESTART, 2), KEEP)
    assert (life.state, life.restarts, effects) == (State.STARTING, 1, (Spawn(),))


def test_the_sixth_crash_in_ten_minutes_is_the_last() -> None:
    life, _ = run(*UP)
    pauses = []
    for number in range(6):
        life, effects = advance(life, Exited(float(number)), KEEP)
        for effect in effects:
            if isinstance(effect, Arm):
                pauses.append(effect.after_s)
                life, _ = advance(life, Elapsed(effect.timer, effect.generation), KEEP)
                life, _ = advance(life, Spawned(), KEEP)
    assert (life.state, life.restarts) == (State.FAILED, 5)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0] == [pause_s(KEEP, n) for n in range(1, 6)]


def test_crashes_far_apart_are_forgotten() -> None:
    life, _ = run(*UP)
    for number in range(20):
        life, effects = advance(life, Exited(601.0 * number), KEEP)
        assert life.state is State.BACKOFF
        [arm] = effects
        assert isinstance(arm, Arm)
        life, _ = advance(life, Elapsed(arm.timer, arm.generation), KEEP)
        life, _ = advance(life, Spawned(), KEEP)


def test_a_late_timer_is_ignored() -> None:
    ready, effects = run(*UP)
    [arm] = effects
    assert isinstance(arm, Arm)
    stopping, effects = advance(ready, Stop(), KEEP)
    assert advance(stopping, Elapsed(arm.timer, arm.generation), KEEP) == (stopping, ())
    assert [type(effect) for effect in effects] == [AskExit, Arm]
    [_, grace] = effects
    assert isinstance(grace, Arm)
    assert advance(stopping, Elapsed(Timer.GRACE, grace.generation), KEEP)[1] == (Kill(),)


def test_one_that_does_not_answer_is_degraded_until_it_does() -> None:
    life, _ = run(*UP, Elapsed(Timer.CHECK, 1), HealthChecked(False))
    assert (life.state, life.child) == (State.DEGRADED, True)
    life, _ = run(
        *UP, Elapsed(Timer.CHECK, 1), HealthChecked(False), Elapsed(Timer.CHECK, 2), HealthChecked(True)
    )
    assert life.state is State.READY


def test_one_that_stalls_is_killed_and_has_failed() -> None:
    life, effects = run(Start(), Spawned(), Unfit())
    assert (life.state, effects) == (State.STARTING, (Kill(),))
    life, effects = advance(life, Exited(1.0), KEEP)
    assert (life.state, effects) == (State.FAILED, (Leave(),))


@pytest.mark.parametrize(
    ("apart_s", "state"), [(599.0, State.FAILED), (600.0, State.BACKOFF), (601.0, State.BACKOFF)]
)
def test_a_crash_counts_until_the_window_is_over(apart_s: float, state: State) -> None:
    once = Policy(keep_up=True, max_restarts=1, window_s=600.0)
    life, _ = run(*UP, Exited(1000.0), Elapsed(Timer.RESTART, 2), Spawned(), Answered(), policy=once)
    life, _ = advance(life, Exited(1000.0 + apart_s), once)
    assert life.state is state


@pytest.mark.parametrize("event", [Unfit(), Answered()])
def test_what_is_being_killed_is_neither_ready_nor_killed_twice(event: Event) -> None:
    life, _ = run(Start(), Spawned(), Unfit())
    assert advance(life, event, KEEP) == (life, ())


@pytest.mark.parametrize("event", [Answered(), Unfit(), Exited(1.0)])
def test_nothing_comes_from_a_child_that_was_not_started(event: Event) -> None:
    life, _ = run(Start())
    assert advance(life, event, KEEP) == (life, ())


@pytest.mark.parametrize("event", [Spawned(), NotSpawned(1.0)])
def test_a_start_is_answered_once(event: Event) -> None:
    for events in [(Start(), Spawned()), (Start(), Spawned(), Stop())]:
        life, _ = run(*events)
        assert advance(life, event, KEEP) == (life, ())
