"""Thousands of random arrivals over machines of unequal devices, in simulated time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from launcher.gateway.admission.events import Refusal
from launcher.gateway.admission.state import Policy
from tests.gateway.admission.world import Ask, Kind, World

G = 1 << 30


def machine(chance: random.Random, n_devices: int) -> dict[str, int]:
    sizes = [4, 8, 12, 16, 24, 32, 48, 80]
    return {"ram": chance.choice([16, 32, 64]) * G} | {
        f"GPU{i}": chance.choice(sizes) * G for i in range(n_devices)
    }


def kinds(chance: random.Random, capacity: dict[str, int], n: int) -> dict[str, Kind]:
    made = {}
    for index in range(n):
        places = chance.sample(sorted(capacity), chance.randint(1, len(capacity)))
        # some take nearly all there is, some hardly anything, and now and then one does not fit at all
        share = chance.choice([0.1, 0.2, 0.4, 0.6, 0.95, 1.05])
        needs = {place: int(capacity[place] * share * chance.uniform(0.5, 1.0)) for place in places}
        smaller = {place: n_bytes // 2 for place, n_bytes in needs.items()}
        made[f"m{index}"] = Kind(
            needs=needs,
            small=smaller if chance.random() < 0.4 else None,
            share=chance.choice([0.5, 0.8]),
            load_s=chance.uniform(1, 60),
            slots=chance.randint(1, 4),
            pinned=chance.random() < 0.05 and share <= 0.2,
            priority=chance.choice([0, 0, 0, 1, 2]),
            ttl_s=chance.choice([None, 30.0, 600.0]),
        )
    return made


def arrivals(chance: random.Random, names: list[str], n: int, per_s: float) -> list[Ask]:
    weights = [1 / (rank + 1) for rank in range(len(names))]
    at, asks = 0.0, []
    for _ in range(n):
        at += chance.expovariate(per_s)
        gone = chance.uniform(0, 60) if chance.random() < 0.05 else None
        [model] = chance.choices(names, weights)
        asks.append(Ask(at, model, chance.expovariate(1 / 4), gone))
    return asks


@pytest.mark.parametrize("n_devices", range(1, 9))
def test_every_request_of_1250_is_answered_and_no_device_is_over_its_budget(n_devices: int) -> None:
    chance = random.Random(n_devices)
    capacity = machine(chance, n_devices)
    known = kinds(chance, capacity, chance.randint(4, 12))
    asks = arrivals(chance, sorted(known), 1250, per_s=chance.choice([0.05, 0.2, 1.0]))
    policy = Policy(slack_bytes=0, most_wait_s=1e9)
    world = World(capacity, known, policy, chance=chance, lag_s=3.0, failing=0.02)
    outcome = world.run(asks)
    answered = outcome.waits.keys() | outcome.refused.keys() | outcome.gone
    assert len(answered) == len(asks)
    assert outcome.waits, "nothing was answered"
    # nobody starves: however many come later, a request waits for those before it, each at worst with a load
    a_turn_s = policy.turn_s(60) + 60 + 3 + 5 + max(ask.lasts_s for ask in asks)
    later_s = 2 * policy.priority_s
    for request, wait_s in outcome.waits.items():
        assert wait_s <= (outcome.ahead[request] + 1) * a_turn_s + later_s, request


def test_a_model_that_is_always_busy_gives_way() -> None:
    # each alone fills the machine, and A is asked for so often that it is never idle
    known = {"a": Kind({"ram": 10 * G}, 5.0, slots=1), "b": Kind({"ram": 10 * G}, 5.0, slots=1)}
    asks = [Ask(i * 0.5, "a", 1.0) for i in range(400)] + [Ask(20.0, "b", 1.0)]
    world = World({"ram": 12 * G}, known, Policy(slack_bytes=0, most_waiting=1000, patience_s=20.0))
    outcome = world.run(asks)
    assert len(outcome.waits) == 401
    assert outcome.waits["r400"] < 20.0 + 15.0
    assert outcome.loads < 40
    assert max(outcome.waits.values()) < 400


def test_a_busy_model_keeps_its_memory_for_as_long_as_its_load_is_worth() -> None:
    # else both spend their time in loading, and nobody is answered
    known = {"a": Kind({"ram": 10 * G}, 30.0, slots=1), "b": Kind({"ram": 10 * G}, 5.0, slots=1)}
    asks = [Ask(i * 0.5, "a", 1.0) for i in range(400)] + [Ask(35.0, "b", 1.0)]
    policy = Policy(slack_bytes=0, most_waiting=1000, turn_loads=4.0)
    outcome = World({"ram": 12 * G}, known, policy).run(asks)
    until_given_s = 30.5 + 4 * 30.0 - 35.0
    assert until_given_s <= outcome.waits["r400"] < until_given_s + 20.0
    # a load that takes minutes is no reason to keep others out for half an hour
    assert (policy.turn_s(200.0), policy.turn_s(400.0)) == (policy.most_turn_s, 400.0)


def test_a_small_model_does_not_take_what_was_made_free_for_a_large_one() -> None:
    known = {
        "busy": Kind({"ram": 6 * G}, 1.0, slots=1),
        "large": Kind({"ram": 10 * G}, 5.0),
        "small": Kind({"ram": 4 * G}, 1.0, slots=1),
    }
    asks = [Ask(i * 1.0, "busy", 1.5) for i in range(100)]
    asks += [Ask(5.0, "large", 1.0)] + [Ask(6.0 + i * 1.0, "small", 1.5) for i in range(100)]
    outcome = World({"ram": 12 * G}, known, Policy(slack_bytes=0, patience_s=10.0)).run(asks)
    assert len(outcome.waits) == 201
    assert outcome.waits["r100"] < 30.0


def test_fewer_layers_on_gpus_spare_another_model() -> None:
    known = {
        "a": Kind({"GPU0": 10 * G, "ram": G}, 5.0),
        "b": Kind({"GPU0": 10 * G, "ram": G}, 5.0, small={"GPU0": 6 * G, "ram": 5 * G}, share=0.8),
    }
    asks = [Ask(0.0, "a", 1.0), Ask(20.0, "b", 1.0), Ask(40.0, "a", 1.0), Ask(50.0, "b", 1.0)]
    capacity = {"GPU0": 16 * G, "ram": 8 * G}
    outcome = World(capacity, known).run(asks)
    assert (outcome.loads, outcome.unloads, outcome.shrunk) == (2, 0, 1)
    # not where it would be too slow
    slow = {**known, "b": replace(known["b"], share=0.6)}
    outcome = World(capacity, slow).run(asks)
    assert (outcome.loads, outcome.unloads) == (4, 3)


def test_a_model_that_was_made_smaller_is_whole_the_next_time() -> None:
    known = {
        "a": Kind({"GPU0": 10 * G}, 5.0, ttl_s=30.0),
        "b": Kind({"GPU0": 10 * G}, 5.0, ttl_s=30.0, small={"GPU0": 6 * G}),
    }
    world = World({"GPU0": 16 * G}, known)
    world.run([Ask(0.0, "a", 1.0), Ask(20.0, "b", 1.0), Ask(200.0, "b", 1.0)])
    assert world.outcome.shrunk == 1
    assert world.state.models["b"].needs == {"GPU0": 10 * G}


def test_the_queue_is_bounded() -> None:
    known = {"a": Kind({"ram": 10 * G}, 1000.0)}
    asks = [Ask(float(i) / 100, "a", 1.0) for i in range(300)]
    outcome = World({"ram": 12 * G}, known, Policy(slack_bytes=0, most_waiting=256)).run(asks)
    assert len(outcome.waits) == 256
    assert list(outcome.refused.values()) == [Refusal.QUEUE_FULL] * 44


def test_nobody_waits_for_ever() -> None:
    known = {"a": Kind({"ram": 10 * G}, 1e6)}
    world = World({"ram": 12 * G}, known, Policy(slack_bytes=0, most_wait_s=100.0))
    outcome = world.run([Ask(1.0, "a", 1.0)])
    assert outcome.refused == {"r0": Refusal.WAITED_TOO_LONG}
    assert world.now < 110


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32), n_devices=st.integers(1, 8), lag=st.sampled_from([0.0, 2.0, 30.0]))
@example(seed=139803431, n_devices=1, lag=30.0)  # two went while another loaded
def test_any_machine_any_models_any_arrivals(seed: int, n_devices: int, lag: float) -> None:
    chance = random.Random(seed)
    capacity = machine(chance, n_devices)
    known = kinds(chance, capacity, chance.randint(1, 8))
    asks = arrivals(chance, sorted(known), 60, per_s=chance.choice([0.05, 0.5, 5.0]))
    policy = Policy(
        slack_bytes=0, most_waiting=chance.choice([3, 256]), patience_s=chance.choice([0.0, 20.0])
    )
    world = World(
        capacity, known, policy, chance=chance, lag_s=lag if lag < policy.back_s else 19.0, failing=0.1
    )
    outcome = world.run(asks)
    answered = outcome.waits.keys() | outcome.refused.keys() | outcome.gone
    assert len(answered) == len(asks)
