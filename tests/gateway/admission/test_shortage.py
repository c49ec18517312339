"""Memory that somebody else has for a while: who lacks it waits, and is told so if it lasts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.gateway.admission.advance import advance
from launcher.gateway.admission.events import (
    Admit,
    Arrived,
    Effect,
    Event,
    Failed,
    Known,
    Load,
    Loaded,
    Measure,
    Measured,
    Plan,
    Planned,
    Refusal,
    Refuse,
    Stopped,
    Ticked,
)
from launcher.gateway.admission.state import Model, Phase, Policy, State
from tests.gateway.admission.test_random_arrivals import arrivals, kinds, machine
from tests.gateway.admission.world import Other, World

POLICY = Policy(slack_bytes=0, back_s=20.0, shortage_s=60.0)
A, B, C = {"gpu": 371}, {"gpu2": 371}, {"gpu": 458}


def ready(needs: Mapping[str, int]) -> Model:
    return Model(phase=Phase.READY, needs=needs)


def out(needs: Mapping[str, int]) -> Model:
    return Model(phase=Phase.OUT, needs=needs)


def after(state: State, *events: Event) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        state, more = advance(state, event, POLICY)
        effects += more
    return state, effects


def refusals(effects: Sequence[Effect]) -> list[tuple[Refusal, float | None]]:
    return [(each.why, each.retry_after_s) for each in effects if isinstance(each, Refuse)]


def test_an_engine_that_is_started_again_takes_no_memory_for_good() -> None:
    # recorded: A was killed, its supervisor started it again for longer than memory is waited for, and B loaded
    models = {"a": ready(A), "b": Model(phase=Phase.LOADING, needs=B), "c": out(C)}
    state = State(models=models, capacity={"gpu": 788, "gpu2": 788}, most={"gpu": 788, "gpu2": 788})
    reserved = {"a": A, "b": B}
    state, _ = after(
        state,
        Stopped(name="a", now=0.0),
        Measured(free={"gpu": 161, "gpu2": 417}, now=1.0, beside=reserved),
        Measured(free={"gpu": 161, "gpu2": 417}, now=21.0, beside=reserved),
    )
    assert state.capacity["gpu"] == 417
    state, effects = after(state, Arrived(request="r1", model="c", now=22.0))
    assert not refusals(effects)
    # it is there again, and with it what is its own
    state, effects = after(state, Known(name="a", model=ready(A), now=30.0))
    assert state.capacity["gpu"] == 788
    assert not refusals(effects)
    state, effects = after(
        state,
        Stopped(name="a", now=40.0),
        Measured(free={"gpu": 788, "gpu2": 417}, now=41.0, beside={"b": B}),
    )
    assert Load("c", C) in effects


def test_who_lacks_what_others_took_waits_for_a_minute_and_hears_at_once_later() -> None:
    state = State(models={"c": out(C)}, capacity={"gpu": 788}, most={"gpu": 788})
    state, effects = after(
        state,
        Measured(free={"gpu": 400}, now=0.0),
        Arrived(request="r1", model="c", now=1.0),
        Ticked(now=60.0),
    )
    assert effects == [Measure()]  # nobody else would look
    state, effects = after(state, Ticked(now=61.0))
    assert refusals(effects) == [(Refusal.SHORT_OF_MEMORY, 60.0)]
    said = [each.sentence for each in effects if isinstance(each, Refuse)]
    assert said == ["c takes 458 B of gpu, 58 B more than there is now: others have taken it"]
    state, effects = after(state, Arrived(request="r2", model="c", now=62.0))
    assert refusals(effects) == [(Refusal.SHORT_OF_MEMORY, 60.0)]
    state, effects = after(
        state, Measured(free={"gpu": 788}, now=70.0), Arrived(request="r3", model="c", now=71.0)
    )
    assert effects == [Load("c", C)]


def test_who_waits_for_others_memory_holds_up_nobody() -> None:
    state = State(models={"c": out(C), "d": out({"gpu": 100})}, capacity={"gpu": 400}, most={"gpu": 788})
    state, effects = after(
        state, Arrived(request="r1", model="c", now=0.0), Arrived(request="r2", model="d", now=1.0)
    )
    assert effects == [Load("d", {"gpu": 100})]


def test_what_never_fitted_is_refused_at_once_for_good() -> None:
    state = State(models={"c": out(C)}, capacity={"gpu": 100}, most={"gpu": 457})
    _, effects = after(state, Arrived(request="r1", model="c", now=0.0))
    assert refusals(effects) == [(Refusal.DOES_NOT_FIT, None)]


def test_a_plan_beside_memory_on_its_way_back_is_made_again() -> None:
    state = State(models={"a": ready(A), "c": Model()}, capacity={"gpu": 500}, most={"gpu": 500})
    state, effects = after(
        state,
        Arrived(request="r1", model="c", now=0.0),
        Stopped(name="a", now=0.1),
        Failed(name="c", sentence="c does not fit", now=0.5, why=Refusal.DOES_NOT_FIT),
        Ticked(now=1.0),
    )
    assert not refusals(effects)
    assert effects.count(Plan("c")) == 1
    state, effects = after(state, Measured(free={"gpu": 500}, now=2.0))
    assert effects == [Plan("c")]
    # and if it does not fit then, it does not fit
    does_not = Failed(name="c", sentence="c does not fit", now=3.0, why=Refusal.DOES_NOT_FIT)
    assert refusals(after(state, does_not)[1]) == [(Refusal.DOES_NOT_FIT, POLICY.retry_s)]
    state, effects = after(state, Planned(name="c", needs=C, load_s=1.0, now=3.0))
    assert effects == [Load("c", C)]


def test_a_load_that_finds_no_room_may_be_asked_for_again() -> None:
    loading = {"c": Model(phase=Phase.LOADING, needs=C)}
    state = State(models=loading, capacity={"gpu": 500}, most={"gpu": 500})
    state, effects = after(
        state,
        Arrived(request="r1", model="c", now=0.0),
        Failed(name="c", sentence="c does not fit", now=0.5, why=Refusal.DOES_NOT_FIT),
    )
    assert refusals(effects) == [(Refusal.SHORT_OF_MEMORY, POLICY.retry_s)]
    state, effects = after(
        state,
        Measured(free={"gpu": 500}, now=1.0),
        Arrived(request="r2", model="c", now=11.0),
        Planned(name="c", needs=C, load_s=1.0, now=12.0),
        Loaded(name="c", seen=None, load_s=1.0, now=13.0),
    )
    assert effects[-1] == Admit("r2", "c")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
def test_other_programs_come_and_go_and_nobody_is_refused_for_good(seed: int) -> None:
    chance = random.Random(seed)
    capacity = machine(chance, chance.randint(1, 4))
    known = {
        name: replace(kind, pinned=False)
        for name, kind in kinds(chance, capacity, chance.randint(1, 6)).items()
        if all(n_bytes <= capacity[place] for place, n_bytes in kind.needs.items())
    } or {"m": replace(kinds(chance, capacity, 1)["m0"], needs={"ram": 1})}
    others = []
    for _ in range(chance.randint(1, 6)):
        at, place = chance.uniform(0, 300), chance.choice(sorted(capacity))
        n_bytes = int(capacity[place] * chance.uniform(0.1, 1.0))
        others.append(Other(at, at + chance.uniform(1, 300), place, n_bytes))
    asks = arrivals(chance, sorted(known), 40, per_s=chance.choice([0.05, 0.5]))
    world = World(capacity, known, Policy(slack_bytes=0), chance=chance, lag_s=3.0, others=others)
    outcome = world.run(asks)
    assert len(outcome.waits.keys() | outcome.refused.keys() | outcome.gone) == len(asks)
    assert Refusal.DOES_NOT_FIT not in outcome.refused.values()
