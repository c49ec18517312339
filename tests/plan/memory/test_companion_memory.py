"""Draft models and projectors in a plan: their room comes first, and the ledger holds them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.errors import EngineFailed, UsageError
from launcher.gguf.ggml import GgmlType
from launcher.gguf.header import Header, parse_header
from launcher.gguf.model import ModelFile, Shard
from launcher.machine.machine import Backend, Machine
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow
from launcher.plan.companions import DraftRequest, ProjectorRequest
from launcher.plan.memory.budget import read_budgets
from launcher.plan.memory.companion_memory import (
    Companions,
    Draft,
    Projector,
    add_amounts,
    draft_question,
    needs_main_context,
    size_companions,
)
from launcher.plan.memory.projector import compute_growth, estimate_compute
from launcher.plan.modes import CacheType, FlashAttention
from launcher.plan.oracle import Answer, BufferRow, ProjectorAnswer, ProjectorQuestion, Question, Refusal
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.search import plan_one, search
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Prefer, Workload
from launcher.units import GIB, MIB
from tests.builders import build_header
from tests.make_projector import projector_header
from tests.plan.answering import Oracle, holding
from tests.plan.shapes import cards, device, machine, model

NOBODY = Refusal(reason="there is no engine", model_refused=False)


class Silent:
    """No simulator: every question is refused, or answered with what was given."""

    def __init__(
        self,
        compute_mib: dict[str, int] | None = None,
        refusal: Refusal = NOBODY,
    ) -> None:
        self.questions: list[Question | ProjectorQuestion] = []
        self._compute_mib, self._refusal = compute_mib, refusal

    def simulate(self, question: Question) -> Answer | Refusal:
        self.questions.append(question)
        return self._refusal

    def simulate_projector(self, question: ProjectorQuestion) -> ProjectorAnswer | Refusal:
        self.questions.append(question)
        if self._compute_mib is None:
            return self._refusal
        rows = tuple(row(where, 100, mib) for where, mib in self._compute_mib.items())
        return ProjectorAnswer(rows=rows, engine="llama.cpp test")


def row(where: str, weights_mib: int, compute_mib: int) -> BufferRow:
    return BufferRow(
        where=where,
        buffer_type=where,
        weights_bytes=weights_mib * MIB,
        kv_bytes=0,
        recurrent_bytes=0,
        compute_bytes=compute_mib * MIB,
        output_bytes=0,
    )


def projector_file(kind: str = "gemma3") -> ModelFile:
    return file_of(projector_header(kind=kind))


def file_of(header_bytes: bytes) -> ModelFile:
    header = parse_header(header_bytes)
    assert isinstance(header, Header)
    return ModelFile(
        model_id="mm", source="mm.gguf", shards=(Shard(name="mm.gguf", size_bytes=1),), headers=(header,)
    )


def projector(oracle: Silent, wish: ProjectorRequest | None = None) -> Companions:
    return Companions(
        projector=Projector(
            request=wish or ProjectorRequest(path="mm.gguf"),
            model=projector_file(),
            path="mm.gguf",
            oracle=oracle,
        )
    )


def draft(wish: DraftRequest | None = None, oracle: Silent | None = None, n_draft: int = 0) -> Companions:
    return Companions(
        draft=Draft(
            request=wish or DraftRequest(path="d.gguf"),
            model=model("llama"),
            path="d.gguf",
            oracle=oracle or Silent(),
        ),
        n_draft=n_draft,
    )


def outcome(box: Machine, companions: Companions, oracle: Silent | None = None) -> Plan | Shortfall:
    offer = Offer(
        quant="Q4_0",
        model=model("qwen3moe"),
        simulator=ModelSimulator(oracle=oracle or Silent(), path="m.gguf"),
    )
    usual = Workload(ctx_size=4096, ubatch_size=512, cache_type_k=CacheType.F16, cache_type_v=CacheType.F16)
    return plan_one(offer, Task(machine=box, workload=usual, companions=companions))


def planned(box: Machine, companions: Companions, oracle: Silent | None = None) -> Plan:
    plan = outcome(box, companions, oracle)
    assert isinstance(plan, Plan), plan.reasons
    assert all(row.free_bytes >= 0 for row in plan.ledger)
    return plan


def rows_of(plan: Plan | Shortfall) -> dict[str, LedgerRow]:
    return {row.where: row for row in plan.ledger}


def test_the_model_is_placed_in_what_a_projector_leaves() -> None:
    box = machine(*cards(500))
    alone = planned(box, Companions())
    beside = planned(box, projector(Silent({"CUDA0": 100, HOST: 5})))

    assert not alone.placement.host_expert_blocks
    assert beside.placement.host_expert_blocks
    assert rows_of(beside)["CUDA0"].budget_bytes == rows_of(alone)["CUDA0"].budget_bytes
    assert any("projector mm in the ledger: CUDA0 100.0 MiB weights" in said for said in beside.reasons)


def test_what_is_beside_is_added_to_the_rows() -> None:
    box = machine(*cards(4000))
    alone = planned(box, Companions())
    beside = planned(box, projector(Silent({"CUDA0": 50, HOST: 5})))

    before, after = rows_of(alone)["CUDA0"], rows_of(beside)["CUDA0"]
    assert after.weights == Amount(n_bytes=before.weights.n_bytes + 100 * MIB, basis=Basis.SIMULATED)
    assert after.compute.n_bytes == before.compute.n_bytes + 50 * MIB
    assert after.kv == before.kv
    assert rows_of(beside)[HOST].compute.n_bytes == rows_of(alone)[HOST].compute.n_bytes + 5 * MIB


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
    wish = ProjectorRequest(path="mm.gguf", where="CUDA1")
    short = outcome(box, projector(Silent({"CUDA1": 10}), wish))
    assert isinstance(short, Shortfall)
    assert short.where == "CUDA1"


def test_a_shortfall_shows_what_is_beside() -> None:
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
    beside = rows_of(planned(box, projector(Silent({"MTL0": 400}))))[HOST]
    assert beside.budget_bytes == alone.budget_bytes - 500 * MIB


def test_without_a_simulator_the_weights_are_exact_and_the_compute_has_a_band() -> None:
    plan = planned(machine(), projector(Silent()))
    host = rows_of(plan)[HOST]
    alone = rows_of(planned(machine(), Companions()))[HOST]
    n_bytes = sum(tensor.size_bytes for tensor in projector_file().tensors)
    assert host.weights == Amount(n_bytes=alone.weights.n_bytes + n_bytes, basis=Basis.EXACT)
    assert host.compute.band_bytes > alone.compute.band_bytes
    assert any("compute estimated: there is no engine" in said for said in plan.reasons)


def test_a_draft_model_is_estimated_where_nobody_simulates() -> None:
    box = machine(*cards(4000))
    alone, beside = planned(box, Companions()), planned(box, draft())
    before, after = rows_of(alone)["CUDA0"], rows_of(beside)["CUDA0"]
    embedding = next(tensor for tensor in model("llama").tensors if tensor.name == "token_embd.weight")
    n_bytes = sum(tensor.size_bytes for tensor in model("llama").tensors) - embedding.size_bytes
    assert after.weights.n_bytes - before.weights.n_bytes == n_bytes
    assert (
        after.kv.n_bytes - before.kv.n_bytes == 4 * 2 * 4096 * 2 * 32 * 2
    )  # blocks, K and V, cells, heads, F16
    on_host = rows_of(beside)[HOST].weights.n_bytes - rows_of(alone)[HOST].weights.n_bytes
    assert on_host == embedding.size_bytes


@pytest.mark.parametrize(("other_cpu", "basis"), [(False, Basis.SIMULATED), (True, Basis.ESTIMATED)])
def test_a_draft_simulated_on_another_processor_is_an_estimate(*, other_cpu: bool, basis: Basis) -> None:
    answer = holding({HOST: 3})
    oracle = Oracle(lambda question: replace(answer(question), other_cpu=other_cpu))
    companion = Draft(request=DraftRequest(path="d.gguf"), model=model("llama"), path="d.gguf", oracle=oracle)
    main = Question(model="m.gguf", devices=(), ctx_size=4096)
    (held,) = size_companions(Companions(draft=companion), main, machine(), ()).rows
    assert (held.where, held.weights.n_bytes, held.compute.n_bytes) == (HOST, MIB, 3 * MIB)
    assert (held.weights.basis, held.compute.basis) == (basis, basis)
    assert held.kv.basis is Basis.SIMULATED
    assert (held.weights.band_bytes > 0) == other_cpu


@pytest.mark.parametrize(
    ("wish", "names", "split"),
    [
        (DraftRequest(path="d"), ("CUDA0", "CUDA1"), (5.0, 8.0)),
        (DraftRequest(path="d", devices=("CUDA1",)), ("CUDA1",), (5.0,)),
        (DraftRequest(path="d", devices=()), (), ()),
    ],
)
def test_a_draft_model_takes_over_the_split(
    wish: DraftRequest, names: tuple[str, ...], split: tuple[float, ...]
) -> None:
    devices = cards(1000, 1000, 1000)
    main = Question(
        model="m", devices=devices[:2], ctx_size=4096, n_parallel=2, tensor_split=(5.0, 8.0), n_gpu_layers=13, n_draft=3
    )  # fmt: skip
    companion = draft(wish).draft
    assert companion is not None
    question = draft_question(companion, main, devices, ())
    assert tuple(each.id for each in question.devices) == names
    assert question.tensor_split == split
    assert (question.n_gpu_layers, question.n_draft, question.ctx_size, question.n_parallel) == (
        None,
        0,
        4096,
        2,
    )


def test_a_split_by_free_memory_sees_what_the_model_left() -> None:
    devices = cards(1000, 1000)
    main = Question(model="m", devices=devices[:1], ctx_size=4096, tensor_split=(13.0,))
    companion = draft(DraftRequest(path="d", devices=("CUDA0", "CUDA1"))).draft
    assert companion is not None
    ledger = planned(machine(*devices), Companions()).ledger
    question = draft_question(companion, main, devices, ledger)
    assert question.tensor_split == ()
    free = [each.free_bytes for each in question.devices]
    assert (
        free[0]
        == (devices[0].free_bytes or 0)
        - rows_of(planned(machine(*devices), Companions()))["CUDA0"].used_bytes
    )
    assert free[1] == devices[1].free_bytes


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


@pytest.mark.parametrize(
    ("kind", "most", "factor"),
    [
        ("gemma3", -1, 1.0),
        ("pixtral", -1, 4.0),
        ("pixtral", 512, 2.0),
        ("pixtral", 64, 1.0),
        ("dots_ocr", -1, 1.0),
    ],
)
def test_growth_beyond_the_warm_up(kind: str, most: int, factor: float) -> None:
    grown = compute_growth(projector_file(kind), most, FlashAttention.AUTO)
    assert grown.factor == factor
    assert ("warm-up" in grown.sentence) == (factor > 1 or kind == "dots_ocr")


def test_growth_is_quadratic_without_flash_attention() -> None:
    assert compute_growth(projector_file("pixtral"), -1, FlashAttention.OFF).factor == 16.0


def test_an_unknown_projector_has_a_wide_band() -> None:
    unknown = file_of(build_header({"general.architecture": "clip"}))
    assert estimate_compute(unknown, FlashAttention.AUTO).band_bytes == 512 * MIB


@pytest.mark.parametrize(
    ("types", "architecture", "expected"),
    [
        ((), "llama", False),
        (("draft-simple",), "llama", False),
        (("draft-mtp",), "llama", True),
        ((), "dflash", True),
    ],
)
def test_drafts_that_need_the_main_context(types: tuple[str, ...], architecture: str, expected: bool) -> None:
    assert (
        needs_main_context(types, file_of(build_header({"general.architecture": architecture}))) is expected
    )


def test_a_sum_is_as_sure_as_its_least_sure_part() -> None:
    exact, guess = (
        Amount(n_bytes=2, basis=Basis.EXACT),
        Amount(n_bytes=3, basis=Basis.ESTIMATED, band_bytes=1),
    )
    assert add_amounts(exact, guess) == Amount(n_bytes=5, basis=Basis.ESTIMATED, band_bytes=1)
    assert add_amounts(exact, replace(NOTHING, basis=Basis.ESTIMATED)) == exact


def test_budgets_are_the_machines_own() -> None:
    box = machine(*cards(4000))
    plan = planned(box, draft())
    assert rows_of(plan)["CUDA0"].budget_bytes == read_budgets(box).devices[0].n_bytes


def test_the_choice_of_a_quant_has_room_for_companions() -> None:
    """The larger quant fits alone; beside a projector only the smaller one does, and it is the one that is taken."""
    sizes = {"Q8_0": GgmlType.Q8_0, "Q4_0": GgmlType.Q4_0}
    offers = [Offer(quant=name, model=model("qwen3moe", expert=kind)) for name, kind in sizes.items()]
    usual = Workload(ctx_size=4096, prefer=Prefer.QUALITY)
    box = machine(ram_bytes=1700 * MIB)
    beside = projector(Silent({HOST: 300}))

    alone = search(offers, Task(machine=box, workload=usual))
    together = search(offers, Task(machine=box, workload=usual, companions=beside))
    assert alone.plan is not None
    assert together.plan is not None
    assert (alone.plan.quant, together.plan.quant) == ("Q8_0", "Q4_0")
    (loser,) = together.rejected
    assert (loser.quant, loser.where) == ("Q8_0", HOST)
    assert all(row.free_bytes >= 0 for row in together.plan.ledger)
