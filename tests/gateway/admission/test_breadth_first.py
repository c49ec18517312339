"""Admission, driven breadth-first through everything that can happen on a small machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from launcher.gateway.admission.advance import advance
from launcher.gateway.admission.choose import is_coming_back
from launcher.gateway.admission.events import (
    Admit,
    Arrived,
    Effect,
    Ended,
    Event,
    Failed,
    Known,
    Load,
    Loaded,
    Measure,
    Measured,
    Plan,
    Planned,
    Refuse,
    Shrink,
    Shrunk,
    StayedUp,
    Stopped,
    Ticked,
    Unload,
    UnloadAsked,
)
from launcher.gateway.admission.state import Model, Phase, Policy, State

NEEDS = {"a": {"ram": 2}, "b": {"ram": 2, "gpu": 1}}
SMALL = {"ram": 1}  # of b, with nothing on the GPU
CAPACITY = {"ram": 3, "gpu": 1}  # one of them at a time
POLICY = Policy(slack_bytes=0, most_waiting=2, patience_s=0.0, most_wait_s=50.0, back_s=50.0)
REQUESTS = ("r1", "r2", "r3")
NOW = 100.0  # time stands still: whatever depends on it is set by the policy, and no load takes any


@dataclass(frozen=True)
class World:
    """The state, what was asked of the surroundings and not answered, and what really holds memory."""

    state: State
    asked: frozenset[tuple[str, str]] = frozenset()
    taken: frozenset[str] = frozenset()
    sent: int = 0
    answered: frozenset[str] = frozenset()
    admitted: frozenset[str] = frozenset()

    def key(self) -> object:
        models = tuple(
            (
                name,
                model.phase,
                model.n_active,
                model.asked_for,
                model.failure is not None,
                model.shrinking,
                model.n_asked,
                model.small is None,
                model.whole is None,
            )
            for name, model in sorted(self.state.models.items())
        )
        waiting = tuple((each.request, each.model) for each in self.state.waiting)
        return (
            models, waiting, self.asked, self.taken, self.sent, self.answered, self.admitted,
            tuple(sorted(self.state.capacity.items())), self.state.yielding,
        )  # fmt: skip


def free(world: World) -> dict[str, int]:
    left = dict(CAPACITY)
    for name in world.taken:
        for place, n_bytes in world.state.models[name].needs.items():
            left[place] -= n_bytes
    return left


def happenings(world: World) -> Iterator[tuple[Event, World]]:  # noqa: C901  one list
    """Yield what can happen next, and the surroundings after it."""
    if world.sent < len(REQUESTS):
        for model in NEEDS:
            yield (
                Arrived(request=REQUESTS[world.sent], model=model, now=NOW),
                replace(world, sent=world.sent + 1),
            )
    for number in range(world.sent):
        request = REQUESTS[number]
        if request not in world.answered or request in world.admitted:
            after = replace(
                world, answered=world.answered | {request}, admitted=world.admitted - {request}
            )  # answered, or its client is gone
            yield Ended(request=request, now=NOW), after
    for what, name in world.asked:
        left = replace(world, asked=world.asked - {(what, name)})
        if what == "plan":
            yield Planned(name=name, needs=NEEDS[name], load_s=0.0, now=NOW, can_shrink=name == "b"), left
            yield Failed(name=name, sentence="no", now=NOW), left
        elif what == "shrink":
            yield Shrunk(name=name, needs=SMALL, share=0.9, now=NOW), left
            yield Shrunk(name=name, needs=None, share=0.0, now=NOW), left
        elif what == "load":
            yield Loaded(name=name, seen=None, load_s=0.0, now=NOW), left
            yield Failed(name=name, sentence="no", now=NOW), replace(left, taken=left.taken - {name})
        elif what == "unload":
            yield Stopped(name=name, now=NOW), replace(left, taken=left.taken - {name})
            yield StayedUp(name=name, now=NOW), left
        else:
            yield Measured(free=free(world), now=NOW), left
    for name, model in world.state.models.items():
        if model.phase is Phase.READY:
            yield Stopped(name=name, now=NOW), replace(world, taken=world.taken - {name})  # it crashed
            yield UnloadAsked(name=name, now=NOW), world
    yield Ticked(now=NOW), world


def carry_out(world: World, effects: tuple[Effect, ...]) -> World:
    for effect in effects:
        match effect:
            case Admit(request, name):
                assert request not in world.answered | world.admitted, "answered twice"
                assert world.state.models[name].phase is Phase.READY
                world = replace(
                    world, admitted=world.admitted | {request}, answered=world.answered | {request}
                )
            case Refuse():
                assert effect.request not in world.answered, "answered twice"
                assert effect.sentence
                world = replace(world, answered=world.answered | {effect.request})
            case Plan(name):
                world = ask(world, "plan", name)
            case Shrink(name, _):
                world = ask(world, "shrink", name)
            case Load(name, needs):
                left = free(world)
                assert all(n_bytes <= left[place] for place, n_bytes in needs.items()), "it does not fit"
                world = replace(ask(world, "load", name), taken=world.taken | {name})
            case Unload(name):
                assert not world.state.models[name].n_active, "a busy model is unloaded"
                world = ask(world, "unload", name)
            case Measure():
                world = replace(world, asked=world.asked | {("measure", "")})
    return world


def ask(world: World, what: str, name: str) -> World:
    assert not any(name == other for _, other in world.asked), f"{what} of {name} beside another"
    return replace(world, asked=world.asked | {(what, name)})


def check(world: World) -> None:
    state = world.state
    for place, n_bytes in state.held().items():
        assert n_bytes <= CAPACITY[place]
    waiting = {each.request for each in state.waiting}
    assert len(waiting) == len(state.waiting) <= POLICY.most_waiting
    assert not waiting & world.answered
    # every request waits, was answered, or its client is gone
    assert waiting | world.answered == set(REQUESTS[: world.sent])
    for name, model in state.models.items():
        assert model.n_active == sum(1 for other in state.active.values() if other == name)


def begin() -> World:
    world = World(State(capacity=CAPACITY))
    for name in NEEDS:
        state, effects = advance(world.state, Known(name=name, model=Model(slots=1), now=NOW), POLICY)
        world = carry_out(replace(world, state=state), effects)
    return world


@pytest.mark.timeout(600)
def test_every_reachable_state_keeps_the_promises_and_none_is_a_dead_end() -> None:
    first = begin()
    seen, queue = {first.key()}, deque([first])
    yielded = False
    while queue:
        world = queue.popleft()
        moves = False
        for event, after in happenings(world):
            state, effects = advance(world.state, event, POLICY)
            # a crash or an answer of which the state knows nothing any more changes nothing
            following = carry_out(replace(after, state=state), effects)
            if is_coming_back(following.state):  # then it is measured again and again
                following = replace(following, asked=following.asked | {("measure", "")})
            check(following)
            yielded = yielded or following.state.yielding is not None
            moves = moves or following.key() != world.key()
            if following.key() not in seen:
                seen.add(following.key())
                queue.append(following)
        if world.state.waiting:
            # somebody is served next, or something was asked for whose answer goes on
            assert moves, world
            assert world.asked or world.state.active, f"nobody does anything for {world.state.waiting}"
    assert len(seen) > 1000
    assert yielded, "no busy model ever had to give way"
