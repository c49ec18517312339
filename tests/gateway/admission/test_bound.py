"""What nobody can do better, by which the bench's figures are read."""

from __future__ import annotations

import random
from itertools import combinations

from launcher.gateway.admission.state import Policy
from scripts.admission_rivals import fewest, fit
from tests.gateway.admission.world import Ask, Kind, World


def tried_out(
    kinds: dict[str, Kind], capacity: dict[str, int], wanted: list[str], held: frozenset[str] = frozenset()
) -> float:
    """Return the fewest seconds of loading, by trying every set that may be kept at every load."""
    if not wanted:
        return 0.0
    first, rest = wanted[0], wanted[1:]
    if first in held:
        return tried_out(kinds, capacity, rest, held)
    sets = [frozenset({*kept, first}) for n in range(len(held) + 1) for kept in combinations(held, n)]
    after = [tried_out(kinds, capacity, rest, kept) for kept in sets if fit(kinds, capacity, kept)]
    return kinds[first].load_s + min(after)


def test_the_bound_is_the_least_of_all_ways_and_the_gateway_is_not_below_it() -> None:
    loads = bound = 0.0
    for seed in range(20):
        chance = random.Random(seed)
        capacity = {"gpu": 12, "ram": 20}
        kinds = {
            name: Kind({"gpu": chance.randint(0, 9), "ram": chance.randint(1, 12)}, chance.randint(1, 9))
            for name in "abcd"
        }
        wanted = chance.choices(list(kinds), k=7)
        # so far apart that nobody waits for another
        asks = [Ask(60.0 * i, name, 1.0) for i, name in enumerate(wanted)]
        prices = {name: kind.load_s for name, kind in kinds.items()}
        assert fewest(kinds, capacity, asks, prices) == tried_out(kinds, capacity, wanted)
        fewest_loads = fewest(kinds, capacity, asks, dict.fromkeys(kinds, 1.0))
        outcome = World(capacity, kinds, Policy(slack_bytes=0)).run(asks)
        assert outcome.loads >= fewest_loads
        loads, bound = loads + outcome.loads, bound + fewest_loads
    assert loads <= 1.15 * bound
