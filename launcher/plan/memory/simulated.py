"""Ask a simulator about a plan, and put its answer into the ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST, Amount, Basis, LedgerRow
from launcher.plan.expert_pattern import placement_overrides
from launcher.plan.oracle import Answer, BufferRow, DraftAnswer, Question
from launcher.plan.parameters import ContextParameters, context_fields
from launcher.plan.plan import Placement, Plan


def plan_question(plan: Plan, model: str, devices: Iterable[Device]) -> Question:
    """Return the question about a plan; `model` is its first shard, `devices` are the machine's."""
    question = placement_question(plan, plan.placement, model, devices)
    return replace(question, load_mode=plan.load_mode, lazy_mode=plan.lazy_mode)


def placement_question(
    parameters: ContextParameters,
    placement: Placement,
    model: str,
    devices: Iterable[Device],
) -> Question:
    by_id = {device.id: device for device in devices}
    return Question(
        model=model,
        devices=tuple(by_id[name] for name in placement.devices),
        **context_fields(parameters),
        overrides=placement_overrides(placement),
        tensor_split=tuple(float(count) for count in placement.tensor_split),
        n_gpu_layers=placement.n_gpu_layers,
        repack=not placement.paged_bytes,
    )


def simulated_ledger(ledger: tuple[LedgerRow, ...], answer: Answer | DraftAnswer) -> tuple[LedgerRow, ...]:
    """Return the ledger with the weights, caches and compute of a simulator's answer."""
    # Prompt cache, overhead and budget stay.
    rows = tuple(_simulated(row, [part for part in answer.rows if part.where == row.where]) for row in ledger)
    if not cpu_unsure(answer):
        return rows
    # The instruction set decides these, and the simulator has another.
    return tuple(
        replace(row, weights=_unsure(ours.weights, row.weights), compute=_unsure(ours.compute, row.compute))
        if row.where == HOST
        else row
        for ours, row in zip(ledger, rows, strict=True)
    )


def _simulated(row: LedgerRow, parts: list[BufferRow]) -> LedgerRow:
    return replace(
        row,
        # the simulator counts weights that are read from the file as llama.cpp's own no_alloc pass does
        weights=_amount(row.weights, (*(part.weights_bytes for part in parts), -row.file_bytes)),
        kv=_amount(row.kv, (part.kv_bytes + part.recurrent_bytes for part in parts)),
        compute=_amount(row.compute, (part.compute_bytes + part.output_bytes for part in parts)),
    )


def cpu_unsure(answer: Answer | DraftAnswer) -> bool:
    """Return whether the host's amounts depend on a processor that the simulator does not have."""
    return answer.other_cpu and _cpu_decides(answer)


def _cpu_decides(answer: Answer | DraftAnswer) -> bool:
    # The CPU computes with weights in layouts that depend on its instruction set. Without a device it
    # always does (src/llama-model.cpp, make_cpu_buft_list: a device's host buffers come first).
    repacked = any(part.buffer_type == "CPU_REPACK" for part in answer.rows)
    return repacked or all(part.where == HOST for part in answer.rows)


def _unsure(counted: Amount, simulated: Amount) -> Amount:
    """Return the simulated bytes as an estimate, with a band up to the top of the formula's."""
    most = counted.n_bytes + counted.band_bytes
    return Amount(
        n_bytes=simulated.n_bytes,
        basis=Basis.ESTIMATED,
        band_bytes=max(most - simulated.n_bytes, 0),
    )


def _amount(counted: Amount, sizes: Iterable[int]) -> Amount:
    """Return the simulated bytes; a sum that the headers give exactly stays exact."""
    n_bytes = sum(sizes)
    if counted.basis is Basis.EXACT and counted.n_bytes == n_bytes:
        return counted
    return Amount(n_bytes=n_bytes, basis=Basis.SIMULATED)
