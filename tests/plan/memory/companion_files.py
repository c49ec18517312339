"""Draft models and projectors with a simulator that answers as told."""

from __future__ import annotations

from launcher.gguf.header import Header, parse_header
from launcher.gguf.model import ModelFile, Shard
from launcher.machine.machine import Machine
from launcher.plan.amounts import LedgerRow
from launcher.plan.companions import Companions, Draft, DraftRequest, Projector, ProjectorRequest
from launcher.plan.memory.draft_memory import MainModel
from launcher.plan.modes import CacheType
from launcher.plan.oracle import Answer, BufferRow, ProjectorAnswer, ProjectorQuestion, Question, Refusal
from launcher.plan.plan import Plan, Shortfall
from launcher.plan.search.search import plan_one
from launcher.plan.search.task import Offer, Task
from launcher.plan.search.verify import ModelSimulator
from launcher.plan.workload import Workload
from launcher.units import MIB
from tests.make_projector import projector_header
from tests.plan.shapes import model

NOBODY = Refusal(reason="there is no engine", model_refused=False)


class Silent:
    """A simulator that refuses every question, or answers with the rows it was given."""

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


def projector(oracle: Silent, request: ProjectorRequest | None = None) -> Companions:
    return Companions(
        projector=Projector(
            request=request or ProjectorRequest(path="mm.gguf"),
            model=projector_file(),
            path="mm.gguf",
            oracle=oracle,
        )
    )


def draft(request: DraftRequest | None = None, oracle: Silent | None = None, n_draft: int = 0) -> Companions:
    return Companions(
        draft=Draft(
            request=request or DraftRequest(path="d.gguf"),
            model=model("llama"),
            path="d.gguf",
            oracle=oracle or Silent(),
        ),
        n_draft=n_draft,
    )


def asked_of(question: Question, oracle: Silent | None = None) -> MainModel:
    """A main model whose own memory does not matter."""
    return MainModel(question=question, model=model("qwen3moe"), ledger=(), oracle=oracle or Silent())


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
