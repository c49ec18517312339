"""The one regular expression for experts: it finds the chosen blocks and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.expert_pattern import expert_pattern, matched_names
from launcher.plan.plan import Plan
from launcher.plan.workload import Workload
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model

NAMES = tuple(
    f"blk.{block}.ffn_{part}.weight"
    for block in range(200)
    for part in (
        "up_exps",
        "down_exps",
        "gate_exps",
        "gate_up_exps",
        "up_chexps",
        "up_shexp",
        "gate_inp",
        "up",
    )
)


@given(st.sets(st.integers(min_value=0, max_value=199), min_size=1))
def test_it_finds_exactly_the_experts_of_the_blocks(blocks: set[int]) -> None:
    expected = tuple(
        name for name in NAMES if int(name.split(".")[1]) in blocks and name.endswith("exps.weight")
    )
    assert expected == matched_names(expert_pattern(sorted(blocks)), NAMES)


@given(st.sets(st.integers(min_value=0, max_value=511), min_size=1))
def test_it_is_one_argument(blocks: set[int]) -> None:
    pattern = expert_pattern(sorted(blocks))
    assert "," not in pattern
    assert "=" not in pattern


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((3,), "3"),
        (tuple(range(14, 61)), "60|1[4-9]|[2-5][0-9]"),
        (tuple(range(1, 61)), "[1-9]|60|[1-5][0-9]"),
        ((0, 2, 4, 10, 12, 14), "[024]|1[024]"),
        (tuple(range(100, 120)), "1[01][0-9]"),
    ],
)
def test_numbers_are_written_shortly(blocks: tuple[int, ...], expected: str) -> None:
    found = expert_pattern(blocks).removeprefix(r"blk\.(").split(")", 1)[0]
    assert sorted(expected.split("|")) == sorted(found.split("|"))


def test_single_kinds_of_a_block_are_one_more_alternative() -> None:
    names = [
        f"blk.{block}.ffn_{kind}_exps.weight"
        for block in range(12)
        for kind in ("up", "gate", "down", "gate_up")
    ]
    pattern = expert_pattern([2, 3, 10], [(1, ("gate", "up")), (11, ("down",))])
    assert "," not in pattern
    found = matched_names(pattern, names)
    whole = {
        f"blk.{block}.ffn_{kind}_exps.weight"
        for block in (2, 3, 10)
        for kind in ("up", "gate", "down", "gate_up")
    }
    some = {"blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight", "blk.11.ffn_down_exps.weight"}
    assert set(found) == whole | some
    assert set(matched_names(expert_pattern([], [(1, ("up",))]), names)) == {"blk.1.ffn_up_exps.weight"}


def test_what_a_device_has_left_takes_single_tensors() -> None:
    """A hundred steps of memory: never over budget, and the pattern finds exactly what the placement says."""
    file = model("qwen3moe")
    parted = 0
    for mib in range(40, 240, 4):
        plan = make_plan(file, "q", machine(*cards(mib, 120)), Workload(ctx_size=4096))
        assert isinstance(plan, Plan)
        assert all(row.free_bytes >= 0 for row in plan.ledger)
        held = sum(row.weights.n_bytes for row in plan.ledger)
        assert held == sum(tensor.size_bytes for tensor in file.tensors)
        parted += bool(plan.placement.host_expert_parts)
    assert parted > 10
