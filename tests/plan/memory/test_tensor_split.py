"""A ledger divided by `--split-mode tensor`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.plan.amounts import HOST, Amount, Basis
from launcher.plan.memory.assign import Assignment, Share
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.tensor_split import (
    divide_assignment,
    divide_ledger,
    proportions,
    splits_tensors,
)
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import Question
from tests.plan.planned import ledger_row
from tests.plan.shapes import cards, machine

TWO = Question(model="m", devices=cards(100, 200), ctx_size=512, split_mode=SplitMode.TENSOR)


def test_several_devices_are_needed_to_divide() -> None:
    assert splits_tensors(TWO)
    assert not splits_tensors(replace(TWO, devices=TWO.devices[:1]))
    assert not splits_tensors(replace(TWO, split_mode=SplitMode.LAYER))


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        ((), (0.5, 0.5)),
        ((0.0, 0.0), (0.5, 0.5)),
        ((1.0, 3.0), (0.25, 0.75)),
        ((2.0,), (1.0, 0.0)),
        ((1.0, 3.0, 4.0), (0.25, 0.75)),
    ],
)
def test_parts_are_as_asked_else_equal(split: tuple[float, ...], parts: tuple[float, ...]) -> None:
    assert proportions(replace(TWO, tensor_split=split)) == parts


def test_weights_and_caches_are_divided_and_compute_is_not() -> None:
    question = replace(TWO, tensor_split=(1.0, 3.0))
    budgets = read_budgets(machine(*TWO.devices))
    whole = (ledger_row("CUDA0", weights=1000, compute=50), ledger_row(HOST, weights=7))
    first, second, host = divide_ledger(whole, question, budgets)
    part = Amount(
        n_bytes=250, basis=Basis.ESTIMATED, band_bytes=100
    )  # a tenth of the whole may lie elsewhere
    assert (first.weights, second.weights) == (part, replace(part, n_bytes=750))
    assert first.kv == whole[0].kv  # none of nothing
    assert first.compute == second.compute == whole[0].compute
    assert [row.where for row in (first, second)] == ["CUDA0", "CUDA1"]
    assert [row.budget_bytes for row in (first, second)] == [each.n_bytes for each in budgets.devices]
    assert host == whole[1]


def test_layers_are_on_every_device_with_their_part_of_the_bytes() -> None:
    one = Share(where="CUDA0", layers=(0, 1), weights_bytes=100, expert_blocks=(1,), expert_bytes=40)
    host = replace(one, where=HOST, layers=(), weights_bytes=5)
    whole = Assignment(n_block=1, shares=(one, host), moved_blocks=())
    divided = divide_assignment(whole, replace(TWO, tensor_split=(1.0, 3.0)))
    assert divided.shares == (
        replace(one, weights_bytes=25, expert_bytes=10),
        replace(one, where="CUDA1", weights_bytes=75, expert_bytes=30),
        host,
    )
