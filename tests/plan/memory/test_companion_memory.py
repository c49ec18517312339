"""Draft models and projectors in a plan: their memory comes first, and is in the ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import EngineFailed, UsageError
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis
from launcher.plan.companions import NO_COMPANIONS, Companions, Draft, DraftRequest, ProjectorRequest
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.companion_memory import size_companions
from launcher.plan.oracle import Answer, ProjectorAnswer, ProjectorQuestion, Question, Refusal
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.search import search
from launcher.plan.search.task import Offer, Task
from launcher.plan.workload import Prefer, Workload
from launcher.units import GIB, MIB
from tests.plan.answering import Oracle, holding
from tests.plan.memory.companion_files import (
    NOBODY,
    Silent,
    asked_of,
    draft,
    outcome,
    planned,
    projector,
    projector_file,
    row,
    rows_of,
)
from tests.plan.shapes import cards, device, machine, model


class _Answering(Silent):
    def simulate(self, question: Question) -> Answer | Refusal:
        return holding({})(question)


def test_the_model_is_placed_in_what_a_projector_leaves() -> None:
    box = machine(*cards(500))
    alone = planned(box, Companions())
    with_it = planned(box, projector(Silent({"CUDA0": 100, HOST: 5})))

    assert not alone.placement.host_expert_blocks
    assert with_it.placement.host_expert_blocks
    assert rows_of(with_it)["CUDA0"].budget_bytes == rows_of(alone)["CUDA0"].budget_bytes
    assert any("projector mm in the ledger: CUDA0 100.0 MiB weights" in said for said in with_it.reasons)


def test_companions_are_added_to_the_rows() -> None:
    box = machine(*cards(4000))
    alone = planned(box, Companions())
    with_it = planned(box, projector(Silent({"CUDA0": 50, HOST: 5})))

    before, after = rows_of(alone)["CUDA0"], rows_of(with_it)["CUDA0"]
    assert after.weights == Amount(n_bytes=before.weights.n_bytes + 100 * MIB, basis=Basis.SIMULATED)
    assert after.compute.n_bytes == before.compute.n_bytes + 50 * MIB
    assert after.kv == before.kv
    assert rows_of(with_it)[HOST].compute.n_bytes == rows_of(alone)[HOST].compute.n_bytes + 5 * MIB


def test_a_projector_follows_the_first_device_in_use() -> None:
    oracle = Silent({"CUDA1": 10})
    planned(machine(*cards(300, 4000)), projector(oracle))
    assert {question.where for question in oracle.questions if isinstance(question, ProjectorQuestion)} == {
        "CUDA1"
    }


def test_a_device_that_only_the_projector_uses_has_a_row() -> None:
    box = machine(*cards(4000, 900))
    plan = planned(box, projector(Silent({"CUDA1": 10}), ProjectorRequest(path="mm.gguf", where="CUDA1")))

    assert plan.placement.devices == ("CUDA0",)
    assert [row.where for row in plan.ledger] == ["CUDA0", "CUDA1", HOST]
    only = rows_of(plan)["CUDA1"]
    assert only.weights.n_bytes == 100 * MIB
    assert only.kv == NOTHING
    assert only.overhead.n_bytes > 0


def test_a_projector_too_large_for_its_device_is_a_shortfall() -> None:
    box = machine(*cards(4000, 50))
    request = ProjectorRequest(path="mm.gguf", where="CUDA1")
    short = outcome(box, projector(Silent({"CUDA1": 10}), request))
    assert isinstance(short, Shortfall)
    assert short.where == "CUDA1"


def test_a_shortfall_shows_companions() -> None:
    box = machine(ram_bytes=2 * GIB)
    short = outcome(box, projector(Silent({HOST: 2000})))
    assert isinstance(short, Shortfall)
    host = rows_of(short)[HOST]
    assert host.compute.n_bytes >= 2000 * MIB
    assert short.missing_bytes == -host.free_bytes


def test_what_a_device_takes_of_the_hosts_memory_the_host_lacks() -> None:
    apple = device(0, 6 * GIB, backend=Backend.METAL, shares_host_memory=True)
    box = machine(apple, ram_bytes=8 * GIB)
    alone = rows_of(planned(box, Companions()))[HOST]
    with_it = rows_of(planned(box, projector(Silent({"MTL0": 400}))))[HOST]
    assert with_it.budget_bytes == alone.budget_bytes - 500 * MIB


def test_without_a_simulator_the_weights_are_exact_and_the_compute_has_a_band() -> None:
    plan = planned(machine(), projector(Silent()))
    host = rows_of(plan)[HOST]
    alone = rows_of(planned(machine(), Companions()))[HOST]
    n_bytes = sum(tensor.size_bytes for tensor in projector_file().tensors)
    assert host.weights == Amount(n_bytes=alone.weights.n_bytes + n_bytes, basis=Basis.EXACT)
    assert host.compute.band_bytes > alone.compute.band_bytes
    assert any("compute estimated: there is no engine" in said for said in plan.reasons)


@pytest.mark.parametrize(
    ("companions", "unverified"),
    [
        (NO_COMPANIONS, None),
        (projector(Silent()), "mm: there is no engine"),
        (draft(), "llama-mini: there is no engine"),
        (projector(Silent(refusal=replace(NOBODY, unavailable=True))), None),
    ],
)
def test_a_companion_of_which_the_simulator_says_nothing_leaves_the_plan_unverified(
    companions: Companions, unverified: str | None
) -> None:
    plan = outcome(machine(*cards(4000)), companions, _Answering())
    assert isinstance(plan, Plan)
    assert plan.simulated_by == "llama.cpp test"
    assert plan.unverified == unverified


def test_a_draft_model_is_estimated_where_nobody_simulates() -> None:
    box = machine(*cards(4000))
    alone, with_it = planned(box, Companions()), planned(box, draft())
    before, after = rows_of(alone)["CUDA0"], rows_of(with_it)["CUDA0"]
    embedding = next(tensor for tensor in model("llama").tensors if tensor.name == "token_embd.weight")
    n_bytes = sum(tensor.size_bytes for tensor in model("llama").tensors) - embedding.size_bytes
    assert after.weights.n_bytes - before.weights.n_bytes == n_bytes
    assert (
        after.kv.n_bytes - before.kv.n_bytes == 4 * 2 * 4096 * 2 * 32 * 2
    )  # blocks, K and V, cells, heads, F16
    on_host = rows_of(with_it)[HOST].weights.n_bytes - rows_of(alone)[HOST].weights.n_bytes
    assert on_host == embedding.size_bytes


@pytest.mark.parametrize(("other_cpu", "basis"), [(False, Basis.SIMULATED), (True, Basis.ESTIMATED)])
def test_a_draft_simulated_on_another_processor_is_an_estimate(*, other_cpu: bool, basis: Basis) -> None:
    answer = holding({HOST: 3})
    oracle = Oracle(lambda question: replace(answer(question), other_cpu=other_cpu))
    companion = Draft(request=DraftRequest(path="d.gguf"), model=model("llama"), path="d.gguf", oracle=oracle)
    main = Question(model="m.gguf", devices=(), ctx_size=4096)
    (held,) = size_companions(Companions(draft=companion), asked_of(main), machine()).rows
    assert (held.where, held.weights.n_bytes, held.compute.n_bytes) == (HOST, MIB, 3 * MIB)
    assert (held.weights.basis, held.compute.basis) == (basis, basis)
    assert held.kv.basis is Basis.SIMULATED
    assert (held.weights.band_bytes > 0) == other_cpu


def test_drafted_tokens_are_asked_of_the_model() -> None:
    oracle = Silent()
    planned(machine(), draft(n_draft=3), oracle)
    assert [question.n_draft for question in oracle.questions if isinstance(question, Question)] == [3]


@pytest.mark.parametrize("companions", [projector(Silent(refusal=replace(NOBODY, model_refused=True)))])
def test_a_file_llama_cpp_refuses_is_an_error(companions: Companions) -> None:
    with pytest.raises(EngineFailed, match=r"would not load mm\.gguf: there is no engine"):
        outcome(machine(), companions)


@pytest.mark.parametrize(
    "companions",
    [
        projector(Silent(), ProjectorRequest(path="mm.gguf", where="CUDA7")),
        draft(DraftRequest(path="d.gguf", devices=("CUDA7",))),
    ],
)
def test_a_device_that_is_not_there(companions: Companions) -> None:
    with pytest.raises(UsageError, match="names CUDA7, and this machine has CUDA0"):
        outcome(machine(*cards(4000)), companions)


def test_companions_that_wander_with_the_placement_come_to_rest() -> None:
    """On one card the model fits alone only; with the projector it needs both, and the projector moves."""

    class Follower(Silent):
        def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal:
            self.questions.append(question)
            return ProjectorAnswer(rows=(row(question.where, 150, 0),), engine="llama.cpp test")

    oracle = Follower()
    plan = planned(machine(*cards(350, 480)), projector(oracle))
    assert len(set(oracle.questions)) <= 4  # what was asked before is remembered
    first = plan.placement.devices[0]
    used = rows_of(plan)[first]
    assert used.weights.basis is Basis.SIMULATED


def test_budgets_are_the_machines_own() -> None:
    box = machine(*cards(4000))
    plan = planned(box, draft())
    assert rows_of(plan)["CUDA0"].budget_bytes == read_budgets(box).devices[0].n_bytes


def test_the_choice_of_a_quant_has_room_for_companions() -> None:
    """The larger quant fits alone; with a projector only the smaller one does, and it is the one that is taken."""
    sizes = {"Q8_0": GgmlType.Q8_0, "Q4_0": GgmlType.Q4_0}
    offers = [Offer(quant=name, model=model("qwen3moe", expert=kind)) for name, kind in sizes.items()]
    usual = Workload(ctx_size=4096, prefer=Prefer.QUALITY)
    box = machine(ram_bytes=1700 * MIB)
    with_it = projector(Silent({HOST: 300}))

    alone = search(offers, Task(machine=box, workload=usual))
    together = search(offers, Task(machine=box, workload=usual, companions=with_it))
    assert alone.plan is not None
    assert together.plan is not None
    assert (alone.plan.quant, together.plan.quant) == ("Q8_0", "Q4_0")
    (rejected,) = together.rejected
    assert (rejected.quant, rejected.where) == ("Q8_0", HOST)
    assert all(row.free_bytes >= 0 for row in together.plan.ledger)


def test_a_projectors_compute_may_grow_to_its_largest_image() -> None:
    """Four times the warm-up's: the band reaches up to it, simulated or not."""
    main = Question(model="m.gguf", devices=cards(4000), ctx_size=4096)

    def compute_of(oracle: Silent) -> Amount:
        wanted = projector(oracle)
        assert wanted.projector is not None
        pixtral = replace(wanted.projector, model=projector_file("pixtral"))
        (held,) = size_companions(
            replace(wanted, projector=pixtral), asked_of(main), machine(*cards(4000))
        ).rows
        return held.compute

    simulated = compute_of(Silent({"CUDA0": 100}))
    assert (simulated.n_bytes, simulated.band_bytes) == (100 * MIB, 300 * MIB)
    estimated = compute_of(Silent())  # from nothing to twice the middle, and three more of it
    assert estimated.band_bytes == 4 * estimated.n_bytes > 0


def test_a_draft_models_rows_are_all_of_its_buffers() -> None:
    answer = holding({HOST: 3})

    def with_states(question: Question) -> Answer:
        given = answer(question)
        rows = tuple(replace(each, recurrent_bytes=5 * MIB, output_bytes=7 * MIB) for each in given.rows)
        return replace(given, rows=rows)

    companion = Draft(
        request=DraftRequest(path="d.gguf"), model=model("llama"), path="d.gguf", oracle=Oracle(with_states)
    )
    main = Question(model="m.gguf", devices=(), ctx_size=4096)
    (held,) = size_companions(Companions(draft=companion), asked_of(main), machine()).rows
    sizes = (held.weights, held.kv, held.compute)
    assert [amount.n_bytes // MIB for amount in sizes] == [1, 2 + 5, 3 + 7]
    assert held.used_bytes == 18 * MIB


def test_drafts_of_an_ngram_take_rows_of_logits() -> None:
    """Of two slots each has a row for each of 64 drafted tokens, beside its first."""
    main = Question(model="m.gguf", devices=(), ctx_size=4096, n_parallel=2)
    companions = Companions(spec_types=("ngram-mod",), n_draft=64)
    (held,) = size_companions(companions, asked_of(main), machine()).rows
    assert (held.where, held.compute.n_bytes) == (HOST, 2 * 64 * 1024 * 4)


def test_a_drafter_that_nobody_can_count_leaves_no_plain_yes() -> None:
    main = Question(model="m.gguf", devices=(), ctx_size=4096)
    sized = size_companions(Companions(uncounted=("the draft is elsewhere",)), asked_of(main), machine())
    assert sized.unanswered == "the draft is elsewhere"
