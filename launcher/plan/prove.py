"""A plan is a claim until llama.cpp's own allocator has confirmed it: ask, and plan again with what it said.

Pure: the simulator is whoever answers `Oracle.simulate`. The formulas stay as what the first plan is made with,
and as the answer where no simulator can run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from launcher.errors import EngineFailed
from launcher.machine import Machine
from launcher.plan.oracle import Answer, HostTensor, Oracle, Refusal
from launcher.plan.plan import HOST, LedgerRow, Plan, Shortfall
from launcher.plan.verdict import question_of, simulated_ledger
from launcher.units import format_bytes

MOST_SIMULATIONS = 8
"""Of one plan (DESIGN section 6). Each round takes what was missing off a budget, so few are needed."""

_NAMED = 3


def prove(
    replan: Callable[[Machine], Plan | Shortfall], machine: Machine, oracle: Oracle, model: str
) -> Plan | Shortfall:
    """The plan for `machine` with every row simulated; `model` is the path of its first shard, hollow or real.

    Where the simulator cannot run, the plan as estimated, with a sentence that says so. Raises EngineFailed for a
    model that llama.cpp refuses to load.
    """
    missing: dict[str, int] = {}
    rounds = 0
    while True:
        outcome = replan(_lessened(machine, missing))
        if isinstance(outcome, Shortfall):
            return outcome
        answer = oracle.simulate(question_of(outcome, model, machine.devices))
        if isinstance(answer, Refusal):
            return _unproved(outcome, answer)
        ledger = simulated_ledger(outcome.ledger, answer)
        over = {row.where: -row.free_bytes for row in ledger if row.free_bytes < 0}
        if not over:
            rows = tuple(
                replace(row, budget_bytes=row.budget_bytes + missing.get(row.where, 0)) for row in ledger
            )
            return replace(outcome, ledger=rows, reasons=(*outcome.reasons, *_reasons(answer, missing)))
        rounds += 1
        if rounds == MOST_SIMULATIONS:
            return _shortfall(outcome, ledger, answer)
        for where, n_bytes in over.items():
            missing[where] = missing.get(where, 0) + n_bytes


def _lessened(machine: Machine, missing: Mapping[str, int]) -> Machine:
    """The machine with the budgets lowered by what the simulator found missing."""
    devices = tuple(
        replace(
            device, free_bytes=max(0, (device.free_bytes or device.total_bytes) - missing.get(device.id, 0))
        )
        if device.id in missing
        else device
        for device in machine.devices
    )
    available = max(0, machine.ram_available_bytes - missing.get(HOST, 0))
    return replace(machine, devices=devices, ram_available_bytes=available)


def _unproved(plan: Plan, refusal: Refusal) -> Plan:
    if refusal.model_refused:
        raise EngineFailed(
            f"llama.cpp would not load {plan.model_id} {plan.quant}: {refusal.reason}",
            hint="launcher engine info shows the engine; choose another quant, or a newer --engine",
        )
    return replace(plan, reasons=(*plan.reasons, f"memory is estimated, not simulated: {refusal.reason}"))


def _shortfall(plan: Plan, ledger: tuple[LedgerRow, ...], answer: Answer) -> Shortfall:
    worst = min(ledger, key=lambda row: row.free_bytes)
    return Shortfall(
        model_id=plan.model_id,
        source=plan.source,
        quant=plan.quant,
        size_bytes=plan.size_bytes,
        ctx_size=plan.ctx_size,
        where=worst.where,
        missing_bytes=-worst.free_bytes,
        ledger=ledger,
        reasons=(f"memory simulated by {answer.engine}",),
        hints=(),
    )


def _reasons(answer: Answer, missing: Mapping[str, int]) -> tuple[str, ...]:
    said = [f"memory simulated by {answer.engine}"]
    said += [
        f"planned again with {format_bytes(n)} less on {where}: the simulator needs it"
        for where, n in missing.items()
    ]
    return (*said, *on_host(answer.host_tensors))


def on_host(tensors: tuple[HostTensor, ...]) -> tuple[str, ...]:
    """One sentence per cause: a quantised file can put hundreds of tensors on the host for the same one."""
    by_reason: dict[str, list[str]] = {}
    for tensor in tensors:
        by_reason.setdefault(tensor.reason, []).append(tensor.name)
    return tuple(
        f"{', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''} on the host: {reason}"
        for reason, names in by_reason.items()
    )
