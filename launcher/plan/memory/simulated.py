"""From a plan to the simulator's question, and from its answer back into the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from launcher.machine.machine import Device
from launcher.plan.amounts import HOST, Amount, Basis, LedgerRow
from launcher.plan.expert_pattern import placement_overrides
from launcher.plan.oracle import Answer, BufferRow, Question
from launcher.plan.parameters import ContextParameters, context_fields
from launcher.plan.plan import Placement, Plan


def plan_question(plan: Plan, model: str, devices: Iterable[Device]) -> Question:
    """What the simulator is asked about this plan. `model` is the first shard's path, `devices` the
    machine's."""
    return replace(placement_question(plan, plan.placement, model, devices), load_mode=plan.load_mode)


def placement_question(
    parameters: ContextParameters,
    placement: Placement,
    model: str,
    devices: Iterable[Device],
) -> Question:
    """The same before there is a plan: what decides where everything goes."""
    by_id = {device.id: device for device in devices}
    return Question(
        model=model,
        devices=tuple(by_id[name] for name in placement.devices),
        **context_fields(parameters),
        overrides=placement_overrides(placement),
        tensor_split=tuple(float(count) for count in placement.tensor_split),
        n_gpu_layers=placement.n_gpu_layers,
    )


def simulated_ledger(ledger: tuple[LedgerRow, ...], answer: Answer) -> tuple[LedgerRow, ...]:
    """The ledger with the simulator's weights, caches and compute; prompt cache, overhead and budget stay.

    What the host's instruction set decides is an estimate where the simulator ran on another processor.
    """
    rows = tuple(_simulated(row, [part for part in answer.rows if part.where == row.where]) for row in ledger)
    if not cpu_unsure(answer):
        return rows
    return tuple(
        replace(row, weights=_unsure(ours.weights, row.weights), compute=_unsure(ours.compute, row.compute))
        if row.where == HOST
        else row
        for ours, row in zip(ledger, rows, strict=True)
    )


def _simulated(row: LedgerRow, parts: list[BufferRow]) -> LedgerRow:
    return replace(
        row,
        weights=_amount(row.weights, (part.weights_bytes for part in parts)),
        kv=_amount(row.kv, (part.kv_bytes + part.recurrent_bytes for part in parts)),
        compute=_amount(row.compute, (part.compute_bytes + part.output_bytes for part in parts)),
    )


def cpu_unsure(answer: Answer) -> bool:
    """Whether the simulator ran on another processor than is planned for, and it matters."""
    return answer.other_cpu and _cpu_decides(answer)


def _cpu_decides(answer: Answer) -> bool:
    """The CPU computes with weights of its own, whose layout depends on its instruction set: always without
    a device (src/llama-model.cpp, make_cpu_buft_list: a device's host buffers come first)."""
    repacked = any(part.buffer_type == "CPU_REPACK" for part in answer.rows)
    return repacked or all(part.where == HOST for part in answer.rows)


def _unsure(counted: Amount, simulated: Amount) -> Amount:
    """The simulated bytes as an estimate, whose band reaches up to what our own figure was at most."""
    most = counted.n_bytes + counted.band_bytes
    return Amount(
        n_bytes=simulated.n_bytes,
        basis=Basis.ESTIMATED,
        band_bytes=max(most - simulated.n_bytes, 0),
    )


def _amount(counted: Amount, sizes: Iterable[int]) -> Amount:
    """The simulated bytes; what the headers say exactly and the simulator confirms stays exact."""
    n_bytes = sum(sizes)
    if counted.basis is Basis.EXACT and counted.n_bytes == n_bytes:
        return counted
    return Amount(n_bytes=n_bytes, basis=Basis.SIMULATED)
