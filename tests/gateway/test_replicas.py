"""Who of several replicas answers: least work, a beginning that is known, and who cannot comes last."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from launcher.gateway.replicas import Readers, Replica, choose_replica

WORKS = st.lists(st.integers(0, 12), min_size=1, max_size=6)
A, B = Replica(name="a", work=0.0), Replica(name="b", work=0.0)


def replicas_of(works: list[int]) -> list[Replica]:
    return [Replica(name=f"m.{index}", work=work / 4) for index, work in enumerate(works)]


@given(works=WORKS, seed=st.integers(0, 100), tried=st.sets(st.integers(0, 5)))
def test_least_work_goes_first_whatever_their_order(works: list[int], seed: int, tried: set[int]) -> None:
    replicas = replicas_of(works)
    names = {f"m.{index}" for index in tried}
    shuffled = random.Random(seed).sample(replicas, len(replicas))
    chosen = choose_replica(replicas, None, names)
    assert chosen == choose_replica(shuffled, None, names)
    left = [replica for replica in replicas if replica.name not in names] or replicas
    assert min(replica.work for replica in left) == next(r.work for r in replicas if r.name == chosen)


@given(works=WORKS, known=st.integers(0, 5))
def test_who_knows_the_beginning_answers_unless_it_is_half_its_slots_busier(
    works: list[int], known: int
) -> None:
    replicas = replicas_of(works)
    chosen = choose_replica(replicas, f"m.{known}")
    at_work = {replica.name: replica.work for replica in replicas}
    least = min(at_work.values())
    if f"m.{known}" in at_work and at_work[f"m.{known}"] <= least + 0.5:
        assert chosen == f"m.{known}"
    else:
        assert chosen is not None
        assert at_work[chosen] == least


def test_who_drains_or_does_not_answer_is_asked_only_where_nobody_else_is_left() -> None:
    busy = replace(B, work=5.0)
    for worse in (replace(A, is_draining=True), replace(A, is_ready=False)):
        assert choose_replica([worse, busy], "a") == "b"
        assert choose_replica([worse]) == "a"
    assert choose_replica([A, busy], tried={"a"}) == "b"
    assert choose_replica([A], tried={"a"}) == "a"
    assert choose_replica([]) is None


def test_a_conversation_that_goes_on_finds_who_read_it() -> None:
    readers = Readers()
    first = b"x" * 700
    readers.note("m", first, "m.1")
    assert readers.find("m", first + b"and then" * 500) == "m.1"
    assert readers.find("other", first) is None
    assert readers.find("m", b"y" + first) is None
    assert readers.find("m", b"x" * 100) is None  # too short to tell
    readers.note("m", first[:512] + b"z" * 4000, "m.2")
    assert readers.find("m", first[:512] + b"z" * 9000) == "m.2"


def test_what_is_remembered_is_bounded() -> None:
    readers = Readers(most=8)
    for number in range(100):
        readers.note("m", bytes([number]) * 600, f"m.{number}")
    kept = Counter(readers.find("m", bytes([number]) * 600) is not None for number in range(100))
    assert kept == {True: 8, False: 92}
