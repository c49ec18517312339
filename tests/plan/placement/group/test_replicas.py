"""Machines for replicas: one each, spread over zones, the quickest first, whatever their order."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.placement.group.replicas import Holder, choose_holders

HOLDERS = st.lists(
    st.builds(
        Holder,
        name=st.sampled_from([f"m{number}" for number in range(12)]),
        turn_s=st.floats(0.1, 9),
        zone=st.sampled_from(["", "a", "b"]),
    ),
    unique_by=lambda holder: holder.name,
)


@given(holders=HOLDERS, standing=HOLDERS, replicas=st.integers(0, 8), seed=st.integers(0, 99))
def test_each_has_a_machine_of_its_own_and_zones_are_even(
    holders: list[Holder], standing: list[Holder], replicas: int, seed: int
) -> None:
    chosen = choose_holders(holders, replicas, standing)
    assert chosen == choose_holders(random.Random(seed).sample(holders, len(holders)), replicas, standing)
    taken = {holder.name for holder in standing}
    names = [holder.name for holder in chosen]
    free = [holder for holder in holders if holder.name not in taken]
    assert len(set(names) - taken) == len(names) == min(replicas, len(free))
    of_zone = Counter(holder.zone for holder in (*standing, *chosen))
    left = [holder for holder in free if holder not in chosen]
    for holder in chosen:  # none could have gone where there are two fewer
        assert all(of_zone[other.zone] >= of_zone[holder.zone] - 1 for other in left)


@given(holders=HOLDERS, standing=HOLDERS, replicas=st.integers(0, 8))
def test_with_one_a_zone_no_zone_gets_a_second(
    holders: list[Holder], standing: list[Holder], replicas: int
) -> None:
    chosen = choose_holders(holders, replicas, standing, one_a_zone=True)
    zones = [holder.zone for holder in chosen]
    assert len(set(zones)) == len(zones)
    assert not set(zones) & {holder.zone for holder in standing}


def test_the_quickest_goes_first() -> None:
    slow, quick = Holder(name="a", turn_s=2.0), Holder(name="b", turn_s=1.0)
    assert choose_holders([slow, quick], 1) == (quick,)
