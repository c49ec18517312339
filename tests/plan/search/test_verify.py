"""Plans confirmed, corrected, improved or left as estimates by a simulator, here one that answers by a rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import EngineFailed
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, Basis
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.simulated import placement_question
from launcher.plan.modes import CacheType
from launcher.plan.oracle import Answer, HostTensor, Question, Refusal
from launcher.plan.placement.arrange import Arrangement, PlanningCase, arrange, read_case
from launcher.plan.placement.settle import settle
from launcher.plan.plan import Shortfall
from launcher.plan.search.choice import Choice
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import (
    MOST_SIMULATIONS,
    ModelSimulator,
    SimulationBudget,
    Verdict,
    verify,
)
from launcher.plan.workload import Limits, Workload
from launcher.units import GIB, MIB
from tests.plan.answering import Oracle, holding
from tests.plan.planned import make_plan
from tests.plan.shapes import cards, machine, model

ONE_CARD = machine(*cards(900))
USUAL = Workload(ctx_size=4096, ubatch_size=512, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
SILENT = Refusal(reason="none", model_refused=False)


def plan_with(oracle: Oracle, *names: str, box: Machine = ONE_CARD, limits: Limits | None = None) -> Choice:
    offers = [
        Offer(quant=name, model=model("qwen3moe"), simulator=ModelSimulator(oracle=oracle, path="m.gguf"))
        for name in names or ("Q4_0",)
    ]
    return search(offers, Task(machine=box, workload=USUAL, limits=limits or Limits()))


def test_a_confirmed_plan_carries_simulated_amounts() -> None:
    oracle = Oracle(holding({}))
    plan = plan_with(oracle).plan
    assert plan is not None
    assert {row.compute.basis for row in plan.ledger} == {Basis.SIMULATED}
    assert [row.weights.n_bytes for row in plan.ledger] == [MIB, MIB]
    assert "memory simulated by llama.cpp test" in plan.reasons
    assert plan.simulated_by == "llama.cpp test"


def test_what_the_simulator_misses_is_taken_off_and_planned_again() -> None:
    def answer(question: Question) -> Answer:
        grown = not question.overrides
        return holding({"CUDA0": 950 if grown else 10})(question)

    oracle = Oracle(answer)
    plan = plan_with(oracle, box=machine(*cards(900))).plan
    assert plan is not None
    assert len(oracle.questions) >= 2
    assert oracle.questions[0].overrides == ()
    assert oracle.questions[-1].overrides != ()
    assert all(row.free_bytes >= 0 for row in plan.ledger)
    assert plan.ledger[0].budget_bytes == 1500 * MIB


def test_room_that_the_simulator_shows_is_filled() -> None:
    """Our compute estimate is above what is reserved: experts that stayed on the host for it come back."""
    tight = machine(*cards(230))
    first = plan_with(Oracle(lambda _: Refusal(reason="none", model_refused=False)), box=tight).plan
    better = plan_with(Oracle(holding({})), box=tight).plan
    assert first is not None
    assert better is not None
    assert len(better.placement.host_expert_blocks) < len(first.placement.host_expert_blocks)


def test_it_asks_at_most_eight_times_for_all_quants_together() -> None:
    oracle = Oracle(holding({"CUDA0": 1 << 20, HOST: 1 << 30}))
    choice = plan_with(oracle, "a", "b", "c", "d", "e")
    assert choice.plan is None
    assert choice.shortfall is not None
    assert len(oracle.questions) <= MOST_SIMULATIONS
    assert choice.n_simulations == len(oracle.questions)


def test_finalists_share_the_simulations() -> None:
    """Each answer leaves the card too small for what was asked: the next places less, and never little enough."""
    oracle = by_turns(*({"CUDA0": 390 + 20 * turn} for turn in range(1, 9)))
    choice = plan_with(oracle, "a", "b", "c", "d", box=machine(*cards(400)))
    assert choice.plan is None
    assert choice.n_simulations == 8
    asked = [(question.n_gpu_layers, question.overrides) for question in oracle.questions]
    starts = [index for index, question in enumerate(asked) if question == asked[0]]
    assert starts == [0, 4, 7]  # four rounds, and for each further finalist one simulation is kept


def test_without_a_simulator_the_plan_says_it_is_estimated() -> None:
    plan = plan_with(Oracle(lambda _: Refusal(reason="there is no engine", model_refused=False))).plan
    assert plan is not None
    assert "memory is estimated, not simulated: there is no engine" in plan.reasons
    assert plan.ledger[0].compute.basis is Basis.ESTIMATED
    assert plan.simulated_by is None


@pytest.mark.parametrize(("unavailable", "unverified"), [(True, None), (False, "it broke")])
def test_a_plan_is_unverified_if_who_was_asked_gave_no_answer(
    unavailable: bool, unverified: str | None
) -> None:
    refusal = Refusal(reason="it broke", model_refused=False, unavailable=unavailable)
    plan = plan_with(Oracle(lambda _: refusal)).plan
    assert plan is not None
    assert plan.unverified == unverified


def test_a_model_llama_cpp_refuses_is_an_error() -> None:
    oracle = Oracle(lambda _: Refusal(reason="a tensor is missing", model_refused=True))
    with pytest.raises(EngineFailed, match=r"llama.cpp would not load .*: a tensor is missing"):
        plan_with(oracle)


def test_an_architecture_that_is_too_new_names_the_engine_s_build_and_how_to_get_a_newer_one() -> None:
    reason = "llama.cpp b11026: unknown model architecture: 'x'"
    oracle = Oracle(lambda _: Refusal(reason=reason, model_refused=True))
    with pytest.raises(
        EngineFailed, match=r"^llama.cpp b11026 does not know the model architecture x, "
    ) as caught:
        plan_with(oracle)
    assert caught.value.hint == "launcher engine update takes a newer one"


def test_tensors_left_on_the_host_are_named_once_per_reason() -> None:
    tensors = tuple(
        HostTensor(name=f"blk.{i}.ffn_up_exps.weight", reason="CUDA0 has no kernel for TQ1_0")
        for i in range(5)
    )
    plan = plan_with(Oracle(holding({}, tensors))).plan
    assert plan is not None
    assert any(
        reason.endswith("and 2 more on the host: CUDA0 has no kernel for TQ1_0") for reason in plan.reasons
    )


def test_another_processors_layouts_are_estimates() -> None:
    def elsewhere(question: Question) -> Answer:
        return replace(holding({})(question), other_cpu=True)

    host = plan_with(Oracle(elsewhere), box=machine()).plan
    offloaded = plan_with(Oracle(elsewhere)).plan
    before = plan_with(Oracle(lambda _: Refusal(reason="none", model_refused=False)), box=machine()).plan
    assert host is not None
    assert offloaded is not None
    assert before is not None
    (row,), (counted,) = host.ledger, before.ledger
    assert (row.weights.basis, row.compute.basis) == (Basis.ESTIMATED, Basis.ESTIMATED)
    assert row.kv.basis is Basis.SIMULATED
    assert row.weights.n_bytes == MIB
    assert row.weights.n_bytes + row.weights.band_bytes == counted.weights.n_bytes
    assert {row.compute.basis for row in offloaded.ledger} == {Basis.SIMULATED}


def test_repacked_weights_beside_a_device_are_estimates_too() -> None:
    def elsewhere(question: Question) -> Answer:
        answer = holding({})(question)
        repacked = replace(answer.rows[-1], buffer_type="CPU_REPACK")
        return replace(answer, rows=(*answer.rows, repacked), other_cpu=True)

    plan = plan_with(Oracle(elsewhere)).plan
    assert plan is not None
    assert [row.compute.basis for row in plan.ledger] == [Basis.SIMULATED, Basis.ESTIMATED]


def test_a_budget_keeps_to_the_limits_when_what_is_missing_came_off() -> None:
    limits = Limits(max_ram_bytes=8 * GIB, reserve=(("CUDA0", 1000 * MIB),))
    budgets = read_budgets(ONE_CARD, limits)

    def answer(question: Question) -> Answer:
        grown = not question.overrides
        return holding({"CUDA0": 975 if grown else 10})(question)

    oracle = Oracle(answer)
    plan = plan_with(oracle, limits=limits).plan
    assert plan is not None
    assert len(oracle.questions) >= 2
    assert [row.budget_bytes for row in plan.ledger] == [budgets.devices[0].n_bytes, budgets.host_bytes]


def test_what_our_figures_refuse_by_less_than_their_band_is_simulated() -> None:
    """Host memory for the weights, and less for compute than we estimate."""
    short = next(
        mib
        for mib in range(900, 300, -4)
        if isinstance(
            make_plan(
                model("qwen3moe"), "Q4_0", machine(ram_bytes=mib * MIB + 512 * MIB), Workload(ctx_size=4096)
            ),
            Shortfall,
        )
    )
    box = machine(ram_bytes=short * MIB + 512 * MIB)
    assert plan_with(Oracle(lambda _: Refusal(reason="none", model_refused=False)), box=box).plan is None
    choice = plan_with(Oracle(holding({})), box=box)
    assert choice.plan is not None
    assert choice.plan.ledger[-1].budget_bytes < 1 * GIB


def as_short_as_we_doubt() -> int:
    """Return the least RAM, in bytes, with which a simulation could show that the model fits."""
    small = 700 * MIB
    shortfall = plan_with(Oracle(lambda _: SILENT), box=machine(ram_bytes=small)).shortfall
    assert shortfall is not None
    doubt = sum(row.compute.n_bytes + row.compute.band_bytes for row in shortfall.ledger)
    assert shortfall.missing_bytes > doubt
    return small + shortfall.missing_bytes - doubt


def test_what_lacks_more_than_our_figures_doubt_is_not_simulated() -> None:
    least = as_short_as_we_doubt()
    for n_bytes, asked in ((600 * MIB, False), (least - 1, False), (least, True)):
        oracle = Oracle(holding({}))
        choice = plan_with(oracle, box=machine(ram_bytes=n_bytes))
        assert bool(oracle.questions) == asked
        assert (choice.plan is not None) == asked


@pytest.mark.parametrize(
    ("smaller", "asked"), [((), MOST_SIMULATIONS), (("Q2_K",), MOST_SIMULATIONS // 2 + 1)]
)
def test_quants_that_barely_miss_leave_half_of_the_simulations_to_what_fits(
    smaller: tuple[str, ...], asked: int
) -> None:
    oracle = Oracle(holding({HOST: 1 << 20}))
    offers = [
        Offer(quant=name, model=file, simulator=ModelSimulator(oracle=oracle, path="m.gguf"))
        for names, file in (("abcdefghij", model("qwen3moe")), (smaller, model("qwen3moe", n_block=6)))
        for name in names
    ]
    box = machine(ram_bytes=as_short_as_we_doubt() + MIB)
    choice = search(offers, Task(machine=box, workload=USUAL))
    assert choice.plan is None
    assert len(oracle.questions) == choice.n_simulations == asked


def test_a_better_quant_that_fits_by_simulation_alone_is_taken() -> None:
    """Our figures refuse the larger quant by less than their doubt, and take the smaller one: llama.cpp knows."""
    better, smaller = model("qwen3moe"), model("qwen3moe", n_block=6)
    request = Workload(ctx_size=4096, ubatch_size=512, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)

    def choose(oracle: Oracle, ram_mib: int) -> Choice:
        offers = [
            Offer(quant=name, model=one, simulator=ModelSimulator(oracle=oracle, path="m.gguf"))
            for name, one in (("Q8_0", better), ("Q4_0", smaller))
        ]
        return search(offers, Task(machine=machine(ram_bytes=ram_mib * MIB + 512 * MIB), workload=request))

    def quant(oracle: Oracle, ram_mib: int) -> str | None:
        plan = choose(oracle, ram_mib).plan
        return plan.quant if plan is not None else None

    silent = Refusal(reason="none", model_refused=False)
    short = next(mib for mib in range(900, 300, -4) if quant(Oracle(lambda _: silent), mib) == "Q4_0")
    oracle = Oracle(holding({}))
    choice = choose(oracle, short)
    assert choice.plan is not None
    assert choice.plan.quant == "Q8_0"
    assert len(oracle.questions) == choice.n_simulations == 1  # its answer is not asked for again
    assert quant(Oracle(holding({HOST: 1 << 20})), short) is None


def arranged(*free_mib: int) -> tuple[PlanningCase, Arrangement]:
    """A model as our figures place it on cards."""
    case = read_case(model("qwen3moe"), "Q4_0", machine(*cards(*free_mib)), USUAL, Limits())
    return case, arrange(case, settle(case.architecture, USUAL, 4096), USUAL)


def verified(
    oracle: Oracle, case: PlanningCase, first: Arrangement, budget: SimulationBudget, reserved: int = 0
) -> Verdict | None:
    simulator = ModelSimulator(oracle=oracle, path="m.gguf")
    return verify(budget, simulator, case, USUAL, first, reserved=reserved)


def by_turns(*answers: Answer | Refusal | dict[str, int]) -> Oracle:
    """An oracle that gives these answers in turn, the last for ever; a dictionary is MiB of compute."""
    oracle = Oracle(lambda _: SILENT)

    def answer(question: Question) -> Answer | Refusal:
        turn = answers[min(len(oracle.questions), len(answers)) - 1]
        return holding(turn)(question) if isinstance(turn, dict) else turn

    oracle = Oracle(answer)
    return oracle


def test_all_that_our_figures_were_too_high_by_is_given_back() -> None:
    """Estimates with their doubt: what the simulator finds is 1 MiB of weights, 2 of caches, 1 of compute."""
    case, first = arranged(230)
    oracle = Oracle(holding({}))
    assert verified(oracle, case, first, SimulationBudget()) is not None
    parts = {row.where: (row.weights, row.kv, row.compute) for row in first.ledger}
    assert any(amount.band_bytes for amounts in parts.values() for amount in amounts)
    surplus = {
        where: sum(amount.n_bytes + amount.band_bytes for amount in amounts) - 4 * MIB
        for where, amounts in parts.items()
    }
    second = arrange(case, first.settled, USUAL, surplus).placement
    assert second != first.placement
    assert oracle.questions[1] == replace(
        placement_question(first.settled.parameters, second, "m.gguf", case.machine.devices),
        n_draft=oracle.questions[1].n_draft,
    )


def test_what_fits_to_the_byte_fits() -> None:
    case, first = arranged(230)
    verdict = verified(Oracle(holding({"CUDA0": 227})), case, first, SimulationBudget())
    assert verdict is not None
    assert verdict.simulated.ledger[0].free_bytes == 0
    assert verdict.fits
    assert verdict.arrangement.placement == first.placement


@pytest.mark.parametrize("after", [{"CUDA0": 1000}, SILENT])
def test_what_fits_is_kept_when_more_does_not(after: dict[str, int] | Refusal) -> None:
    case, first = arranged(230)
    verdict = verified(by_turns({}, {"CUDA0": 1000}, after), case, first, SimulationBudget())
    assert verdict is not None
    assert verdict.fits
    assert verdict.arrangement.placement == first.placement


def test_what_did_not_fit_is_said_when_the_simulator_falls_silent() -> None:
    case, first = arranged(230)
    verdict = verified(by_turns({"CUDA0": 1000}, SILENT), case, first, SimulationBudget())
    assert verdict is not None
    assert not verdict.fits


def test_of_placements_that_hold_as_much_the_first_is_kept() -> None:
    case, first = arranged(300, 300)
    oracle = Oracle(holding({"CUDA0": 200}))
    verdict = verified(oracle, case, first, SimulationBudget())
    assert verdict is not None
    assert [question.tensor_split for question in oracle.questions] == [(6, 7), (13,)]
    assert verdict.arrangement.placement == first.placement


@pytest.mark.parametrize(("left", "reserved", "asked"), [(8, 0, 4), (3, 1, 2), (2, 1, 1), (1, 1, 1)])
def test_simulations_are_left_to_others(left: int, reserved: int, asked: int) -> None:
    """Each answer shows room for more on the card; the first question is always asked."""
    case, first = arranged(100)
    oracle, budget = Oracle(holding({})), SimulationBudget(left=left)
    assert verified(oracle, case, first, budget, reserved) is not None
    assert len(oracle.questions) == asked
    assert budget.left == left - asked
