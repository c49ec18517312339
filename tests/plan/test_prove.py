"""Plans confirmed, corrected or left as estimates by a simulator, here one that answers from a list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.errors import EngineFailed
from launcher.hub.local import open_path
from launcher.machine import Machine
from launcher.plan.beside import with_beside
from launcher.plan.budget import read_budgets
from launcher.plan.make import make_plan
from launcher.plan.oracle import Answer, HostTensor, Question, Refusal
from launcher.plan.plan import HOST, Basis, Limits, Plan, Shortfall, Workload
from launcher.plan.prove import MOST_SIMULATIONS, prove
from launcher.units import GIB, MIB
from tests.make_gguf import make_gguf
from tests.plan.answering import Oracle, holding
from tests.plan.shapes import cards, machine


@pytest.fixture
def replan(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Machine], Plan | Shortfall]:
    (path,) = make_gguf(tmp_path_factory.mktemp("model") / "m.gguf", "qwen3moe", hollow=True)
    model = open_path(path).model
    return lambda host: make_plan(model, "Q4_0", host, Workload(ctx_size=4096))


ONE_CARD = machine(*cards(900))


def test_a_confirmed_plan_carries_simulated_amounts(replan: Callable[[Machine], Plan | Shortfall]) -> None:
    oracle = Oracle(holding({}))
    plan = prove(replan, ONE_CARD, oracle, "m.gguf")
    assert isinstance(plan, Plan)
    assert len(oracle.questions) == 1
    assert {row.compute.basis for row in plan.ledger} == {Basis.SIMULATED}
    assert [row.weights.n_bytes for row in plan.ledger] == [MIB, MIB]
    assert "memory simulated by llama.cpp test" in plan.reasons


def test_what_the_simulator_misses_is_taken_off_the_budget(
    replan: Callable[[Machine], Plan | Shortfall],
) -> None:
    first = replan(ONE_CARD)
    assert isinstance(first, Plan)
    budget = first.ledger[0].budget_bytes

    def answer(question: Question) -> Answer:
        return holding({"CUDA0": budget // MIB + 100 if len(oracle.questions) == 1 else 10})(question)

    oracle = Oracle(answer)
    plan = prove(replan, ONE_CARD, oracle, "m.gguf")
    assert isinstance(plan, Plan)
    assert len(oracle.questions) == 2
    assert plan.ledger[0].budget_bytes == budget
    assert any("planned again" in reason for reason in plan.reasons)


def test_it_never_asks_for_ever(replan: Callable[[Machine], Plan | Shortfall]) -> None:
    oracle = Oracle(holding({HOST: 1 << 30}))
    outcome = prove(replan, ONE_CARD, oracle, "m.gguf")
    assert isinstance(outcome, Shortfall)
    assert len(oracle.questions) <= MOST_SIMULATIONS


def test_a_plan_the_simulator_never_confirms_does_not_fit(
    replan: Callable[[Machine], Plan | Shortfall],
) -> None:
    first = replan(ONE_CARD)
    oracle = Oracle(holding({"CUDA0": 1 << 20}))
    outcome = prove(lambda _: first, ONE_CARD, oracle, "m.gguf")
    assert isinstance(outcome, Shortfall)
    assert outcome.where == "CUDA0"
    assert outcome.missing_bytes > 0
    assert len(oracle.questions) == MOST_SIMULATIONS


def test_without_a_simulator_the_plan_says_it_is_estimated(
    replan: Callable[[Machine], Plan | Shortfall],
) -> None:
    oracle = Oracle(lambda _: Refusal(reason="there is no engine", model_refused=False))
    plan = prove(replan, ONE_CARD, oracle, "m.gguf")
    assert isinstance(plan, Plan)
    assert plan.reasons[-1] == "memory is estimated, not simulated: there is no engine"
    assert plan.ledger[0].compute.basis is Basis.ESTIMATED


def test_a_model_llama_cpp_refuses_is_an_error(replan: Callable[[Machine], Plan | Shortfall]) -> None:
    oracle = Oracle(lambda _: Refusal(reason="unknown model architecture: 'x'", model_refused=True))
    with pytest.raises(EngineFailed, match="unknown model architecture"):
        prove(replan, ONE_CARD, oracle, "m.gguf")


def test_tensors_left_on_the_host_are_named_once_per_reason(
    replan: Callable[[Machine], Plan | Shortfall],
) -> None:
    tensors = tuple(
        HostTensor(name=f"blk.{i}.ffn_up_exps.weight", reason="CUDA0 has no kernel for TQ1_0")
        for i in range(5)
    )
    plan = prove(replan, ONE_CARD, Oracle(holding({}, tensors)), "m.gguf")
    assert isinstance(plan, Plan)
    assert plan.reasons[-1].endswith("and 2 more on the host: CUDA0 has no kernel for TQ1_0")


def test_another_processors_layouts_are_estimates(replan: Callable[[Machine], Plan | Shortfall]) -> None:
    def elsewhere(question: Question) -> Answer:
        return replace(holding({})(question), other_cpu=True)

    host = prove(replan, machine(), Oracle(elsewhere), "m.gguf")
    offloaded = prove(replan, ONE_CARD, Oracle(elsewhere), "m.gguf")
    before = replan(machine())
    assert isinstance(host, Plan)
    assert isinstance(offloaded, Plan)
    assert isinstance(before, Plan)
    (row,), (counted,) = host.ledger, before.ledger
    assert (row.weights.basis, row.compute.basis) == (Basis.ESTIMATED, Basis.ESTIMATED)
    assert row.kv.basis is Basis.SIMULATED
    assert row.weights.n_bytes == MIB
    assert row.weights.n_bytes + row.weights.band_bytes == counted.weights.n_bytes
    assert {row.compute.basis for row in offloaded.ledger} == {Basis.SIMULATED}


def test_repacked_weights_beside_a_device_are_estimates_too(
    replan: Callable[[Machine], Plan | Shortfall],
) -> None:
    def elsewhere(question: Question) -> Answer:
        answer = holding({})(question)
        repacked = replace(answer.rows[-1], buffer_type="CPU_REPACK")
        return replace(answer, rows=(*answer.rows, repacked), other_cpu=True)

    plan = prove(replan, ONE_CARD, Oracle(elsewhere), "m.gguf")
    assert isinstance(plan, Plan)
    assert [row.compute.basis for row in plan.ledger] == [Basis.SIMULATED, Basis.ESTIMATED]


@pytest.mark.parametrize("free", [None, 24 * GIB])
def test_what_is_missing_lowers_the_budget_by_just_that(
    replan: Callable[[Machine], Plan | Shortfall], free: int | None
) -> None:
    card = replace(ONE_CARD.devices[0], total_bytes=80 * GIB, free_bytes=free)
    host = replace(ONE_CARD, devices=(card,))
    budget = read_budgets(host).devices[0].n_bytes
    seen: list[int] = []

    def remembering(left: Machine) -> Plan | Shortfall:
        seen.append(read_budgets(left).devices[0].n_bytes)
        return replan(left)

    first = replan(host)
    assert isinstance(first, Plan)
    (row, _) = first.ledger
    kept = sum(amount.n_bytes + amount.band_bytes for amount in (row.overhead, row.cache))
    too_much = budget - kept - 3 * MIB + 300 * MIB

    def answer(question: Question) -> Answer:
        return holding({"CUDA0": too_much // MIB if len(oracle.questions) == 1 else 1})(question)

    oracle = Oracle(answer)
    plan = prove(remembering, host, oracle, "m.gguf")
    assert isinstance(plan, Plan)
    assert len(seen) == 2
    assert budget - seen[1] == pytest.approx(300 * MIB, abs=2 * MIB)
    assert plan.ledger[0].budget_bytes == budget


def test_restored_budgets_keep_to_the_limits(tmp_path: Path) -> None:
    (path,) = make_gguf(tmp_path / "m.gguf", "qwen3moe", hollow=True)
    limits = Limits(max_ram_bytes=8 << 30, reserve=(("CUDA0", 100 * MIB),))
    plan = make_plan(open_path(path).model, "Q4_0", ONE_CARD, Workload(ctx_size=4096), limits=limits)
    assert isinstance(plan, Plan)
    restored = with_beside(plan.ledger, (), ONE_CARD, limits)
    assert [row.budget_bytes for row in restored] == [row.budget_bytes for row in plan.ledger]
    assert [row.budget_bytes for row in with_beside(plan.ledger, (), ONE_CARD)] != [
        row.budget_bytes for row in plan.ledger
    ]
