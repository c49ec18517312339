"""Answer a simulator's question by the planner's formulas, for where no simulator runs. Pure."""

from __future__ import annotations

from dataclasses import replace

from launcher.gguf.architecture import Architecture
from launcher.gguf.model import ModelFile
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow
from launcher.plan.memory.assign import Assignment
from launcher.plan.memory.budget import Budgets
from launcher.plan.memory.kv import size_caches
from launcher.plan.memory.ledger import Demand, build_ledger, with_shared_memory
from launcher.plan.memory.tables import tables_of_question
from launcher.plan.memory.weights import weigh
from launcher.plan.oracle import Question
from launcher.plan.plan import Placement


def demand_of_question(question: Question, architecture: Architecture, model: ModelFile) -> Demand:
    # Slots that do not share have a cache each, as if each were alone (llama_kv_cache's streams).
    apart = question.n_parallel if not question.kv_unified else 1
    parameters = replace(question, ubatch_size=min(question.ubatch_size, question.batch_size))
    one = replace(parameters, ctx_size=question.ctx_size // apart, n_parallel=question.n_parallel // apart)
    caches = size_caches(architecture, one)
    blocks = tuple(
        replace(
            block,
            attention_bytes=block.attention_bytes * apart,
            recurrent_bytes=block.recurrent_bytes * apart,
        )
        for block in caches.blocks
    )
    return Demand(
        architecture=architecture,
        weights=weigh(
            architecture,
            model.tensors,
            {device.backend for device in question.devices},
            in_file=tables_of_question(question, architecture, model.tensors),
            load_mtp=question.load_mtp,
        ),
        parameters=parameters,
        caches=replace(caches, blocks=blocks),
    )


def count_question(
    demand: Demand, question: Question, assignment: Assignment, budgets: Budgets, cache: Amount = NOTHING
) -> tuple[LedgerRow, ...]:
    n_layers = sum(len(share.layers) for share in assignment.shares if share.where != HOST)
    placement = Placement(
        n_block=assignment.n_block,
        n_gpu_layers=n_layers,
        devices=tuple(device.id for device in question.devices),
        tensor_split=tuple(len(assignment.share(device.id).layers) for device in question.devices),
        host_expert_blocks=assignment.moved_blocks,
    )
    ledger = build_ledger(demand, placement, budgets, cache)
    # A placement describes no single tensors, and no device without layers.
    if question.overrides or (question.devices and not n_layers):
        ledger = tuple(
            replace(row, weights=_exact(assignment.share(row.where).weights_bytes)) for row in ledger
        )
    if not question.kv_offload and question.devices:
        everything = demand.caches.amount(range(assignment.n_block))
        ledger = tuple(replace(row, kv=everything if row.where == HOST else NOTHING) for row in ledger)
    return with_shared_memory(ledger, budgets)


def _exact(n_bytes: int) -> Amount:
    return Amount(n_bytes=n_bytes, basis=Basis.EXACT)
