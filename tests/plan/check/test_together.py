"""Which models of a router are suspect: held against all sets there are, and the worst order of each."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.amounts import HOST
from launcher.plan.check.together import Gives, Share, overruns_of, suspects

BUDGETS = {"CUDA0": 24, "CUDA1": 16, HOST: 32}
shares = st.lists(
    st.tuples(*(st.integers(0, budget) for budget in BUDGETS.values()), st.sampled_from(Gives)), max_size=6
).map(
    lambda rows: [
        Share(
            name=str(at),
            used=dict(zip(BUDGETS, row[:3], strict=True)),
            budgets=BUDGETS,
            gives=row[3],
        )
        for at, row in enumerate(rows)
    ]
)


@given(shares, st.integers(1, 6))
def test_a_set_is_suspect_if_any_is_too_large(models: list[Share], most: int) -> None:
    found = suspects(models, most)
    sets = [chosen for size in range(1, most + 1) for chosen in combinations(models, size)]
    assert bool(found) == any(overruns_of(chosen) for chosen in sets)
    assert all(overruns_of(chosen) and len(chosen) <= most for chosen in found)


@given(shares)
def test_what_gives_way_is_loaded_first(models: list[Share]) -> None:
    for chosen in suspects(models, 4):
        assert [share.gives for share in chosen] == sorted(share.gives for share in chosen)


def test_a_rigid_model_is_tried_after_the_largest_that_gives_way() -> None:
    """The two largest give way to each other; a small one that does not is what fails."""
    soft = [Share(name=f"soft{n}", used={"CUDA0": n}, budgets=BUDGETS, gives=Gives.PLACE) for n in (20, 18)]
    hard = Share(name="hard", used={"CUDA0": 5}, budgets=BUDGETS, gives=Gives.NOTHING)
    names = [[share.name for share in chosen] for chosen in suspects([*soft, hard], 2)]
    assert sorted(names) == [["soft20", "hard"], ["soft20", "soft18"]]
