"""Questions that formulas answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Device
from launcher.plan.amounts import HOST, NOTHING, LedgerRow
from launcher.plan.memory.assign import assign
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.estimate import count_question, demand_of_question
from launcher.plan.memory.ledger import Demand
from launcher.plan.modes import TensorOverride
from launcher.plan.oracle import Question
from tests.plan.shapes import architecture_of, cards, machine, model

CARDS = cards(1000, 1000)


def asked(devices: tuple[Device, ...] = CARDS, **other: object) -> Question:
    return replace(Question(model="m", devices=devices, ctx_size=4096), **other)  # type: ignore[arg-type]


def demand(question: Question, name: str = "llama") -> Demand:
    return demand_of_question(question, architecture_of(model(name)), model(name))


def rows(question: Question, name: str = "llama", needs: Demand | None = None) -> tuple[LedgerRow, ...]:
    file = model(name)
    return count_question(
        needs or demand(question, name),
        question,
        assign(question, architecture_of(file), file.tensors),
        read_budgets(machine(*question.devices)),
    )


@pytest.mark.parametrize(("n_parallel", "unified"), [(4, True), (4, False), (1, False)])
def test_slots_that_do_not_share_divide_the_context(n_parallel: int, *, unified: bool) -> None:
    question = asked(n_parallel=n_parallel, kv_unified=unified)
    together, apart = demand(asked()), demand(question)
    assert [block.n_bytes for block in apart.caches.blocks] == [
        block.n_bytes for block in together.caches.blocks
    ]
    assert apart.caches.cells == ((4096,) if unified else (4096 // n_parallel,))


def test_slots_that_do_not_share_have_a_window_each() -> None:
    alone = demand(asked(), "gemma3").caches
    apart = demand(asked(ctx_size=4 * 4096, n_parallel=4, kv_unified=False), "gemma3").caches
    assert [block.n_bytes for block in apart.blocks] == [4 * block.n_bytes for block in alone.blocks]
    assert apart.cells == alone.cells
    assert alone.cells[1] < alone.cells[0]


def test_a_batch_is_no_larger_than_asked() -> None:
    assert demand(asked(batch_size=128)).parameters.ubatch_size == 128
    assert demand(asked(batch_size=1024)).parameters.ubatch_size == 512


def test_devices_without_layers_leave_all_to_the_host() -> None:
    first, second, host = rows(asked(n_gpu_layers=0))
    total = sum(tensor.size_bytes for tensor in model("llama").tensors)
    assert (first.weights.n_bytes, second.weights.n_bytes, host.weights.n_bytes) == (0, 0, total)


def test_an_override_moves_its_tensors() -> None:
    moved = [tensor for tensor in model("llama").tensors if "ffn_up" in tensor.name]
    rule = TensorOverride(pattern="ffn_up", where=HOST)
    plain, with_rule = rows(asked()), rows(asked(overrides=(rule,)))
    assert with_rule[-1].weights.n_bytes - plain[-1].weights.n_bytes == sum(t.size_bytes for t in moved)


def test_a_repacked_embedding_counts_twice_without_devices() -> None:
    question = asked(())
    plain = demand(question, "gemma3")
    repacked = replace(plain, weights=replace(plain.weights, tied_type=GgmlType.Q4_0))
    other = replace(plain, weights=replace(plain.weights, tied_type=GgmlType.F32))
    (twice,), (once,) = rows(question, "gemma3", repacked), rows(question, "gemma3", other)
    assert twice.weights.n_bytes - once.weights.n_bytes == plain.weights.tied_bytes > 0


def test_a_cache_that_stays_on_the_host_is_in_its_row() -> None:
    everything = demand(asked()).caches.amount(range(4))
    usual, kept = rows(asked()), rows(asked(kv_offload=False))
    assert [row.kv for row in kept] == [NOTHING, NOTHING, everything]
    assert usual[-1].kv.n_bytes == 0
    (alone,) = rows(asked((), kv_offload=False))
    assert alone.kv == everything
