"""A plan is a claim until llama.cpp's own allocator has confirmed it: ask, and plan again with what it said.

Pure: the simulator is whoever answers `Oracle.simulate`. The formulas stay as what the first plan is made with,
and as the answer where no simulator can run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from launcher.errors import EngineFailed
from launcher.machine import Machine
from launcher.plan.beside import Beside, beside, with_beside
from launcher.plan.budget import free_bytes
from launcher.plan.companions import NO_COMPANIONS, Companions
from launcher.plan.oracle import Answer, HostTensor, Oracle, Refusal
from launcher.plan.plan import HOST, LedgerRow, Limits, Plan, Shortfall
from launcher.plan.reasons import describe_missing
from launcher.plan.verdict import question_of, simulated_ledger
from launcher.units import format_bytes

MOST_SIMULATIONS = 8
"""Of one plan (DESIGN section 6). Each round takes what was missing off a budget, so few are needed."""

_NAMED = 3


def prove(
    replan: Callable[[Machine], Plan | Shortfall],
    machine: Machine,
    oracle: Oracle,
    model: str,
    companions: Companions = NO_COMPANIONS,
    limits: Limits | None = None,
) -> Plan | Shortfall:
    """The plan for `machine` with every row simulated; `model` is the path of its first shard, hollow or real.

    `limits` are those that `replan` keeps to. `companions` get their room first, and the model is placed in what is left. Where the simulator cannot run, the
    plan as estimated, with a sentence that says so. Raises EngineFailed for a model that llama.cpp refuses to load.
    """
    room = _Room(machine, limits)
    rounds = 0
    while True:
        outcome = replan(room.left)
        if isinstance(outcome, Shortfall):
            return room.too_small_for(outcome)
        question = replace(question_of(outcome, model, machine.devices), n_draft=companions.n_draft)
        held = beside(companions, question, machine, outcome.ledger)
        rounds += 1
        if not room.has(held) and rounds < MOST_SIMULATIONS:
            room.make(held, outcome.placement.devices)
            continue
        room.held = held
        answer = oracle.simulate(question)
        ledger = outcome.ledger if isinstance(answer, Refusal) else simulated_ledger(outcome.ledger, answer)
        ledger = room.restore(ledger)
        said = (*_reasons(outcome, answer, room.missing), *room.said())
        over = {row.where: -row.free_bytes for row in ledger if row.free_bytes < 0}
        if not over:
            return replace(outcome, ledger=ledger, reasons=(*outcome.reasons, *said))
        if rounds >= MOST_SIMULATIONS:
            return _shortfall(outcome, ledger, said)
        room.miss(over)


class _Room:
    """A machine's budgets, lowered by what companions hold and by what the simulator found missing."""

    def __init__(self, machine: Machine, limits: Limits | None) -> None:
        self.machine = machine
        self._limits = limits
        self.held = Beside()
        self.missing: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._seen: set[tuple[str, ...]] = set()

    @property
    def left(self) -> Machine:
        """What the model may be planned for."""
        return _lessened(_lessened(self.machine, self._kept), self.missing)

    def has(self, held: Beside) -> bool:
        """Whether what is kept is enough for them."""
        return all(n_bytes <= self._kept.get(where, 0) for where, n_bytes in held.used_bytes.items())

    def make(self, held: Beside, devices: tuple[str, ...]) -> None:
        """Keep room for them. They go where the model's devices are, which depend on the room: where the same devices
        come round again, every place they were seen in is kept free."""
        kept = held.used_bytes
        if devices in self._seen:
            kept = {
                where: max(kept.get(where, 0), self._kept.get(where, 0)) for where in {**self._kept, **kept}
            }
        self._seen.add(devices)
        self._kept, self.held = kept, held

    def miss(self, over: Mapping[str, int]) -> None:
        for where, n_bytes in over.items():
            self.missing[where] = self.missing.get(where, 0) + n_bytes

    def restore(self, ledger: tuple[LedgerRow, ...]) -> tuple[LedgerRow, ...]:
        """The rows against the whole budgets, with what companions hold in them."""
        return with_beside(ledger, self.held.held, self.machine, self._limits)

    def too_small_for(self, shortfall: Shortfall) -> Shortfall:
        """The shortfall with companions in its rows; what only the simulator found missing stays off the budgets."""
        if not self._kept:
            return shortfall
        ledger = tuple(
            replace(row, budget_bytes=row.budget_bytes - self.missing.get(row.where, 0))
            for row in self.restore(shortfall.ledger)
        )
        worst = min(ledger, key=lambda row: row.free_bytes)
        return replace(
            shortfall,
            where=worst.where,
            missing_bytes=-worst.free_bytes,
            ledger=ledger,
            reasons=(describe_missing(shortfall.quant, worst), *shortfall.reasons[1:], *self.said()),
        )

    def said(self) -> tuple[str, ...]:
        """What is beside the model, and what that leaves it."""
        kept = [f"{format_bytes(n_bytes)} of {where}" for where, n_bytes in self._kept.items() if n_bytes]
        kept = [f"the model is placed in what is left after {', '.join(kept)}"] if kept else []
        return (*self.held.reasons, *kept)


def _lessened(machine: Machine, missing: Mapping[str, int]) -> Machine:
    """The machine with its budgets lowered. What a device takes of the host's memory, the host lacks."""
    available = machine.ram_available_bytes - missing.get(HOST, 0)
    devices = []
    for device in machine.devices:
        n_bytes = missing.get(device.id, 0)
        if not n_bytes:
            devices.append(device)
            continue
        free = max(0, free_bytes(device) - n_bytes)
        own = min(device.carve_out_bytes, n_bytes) if device.shares_host_memory else n_bytes
        available -= n_bytes - own
        carve_out = device.carve_out_bytes - own if device.shares_host_memory else device.carve_out_bytes
        devices.append(replace(device, free_bytes=free, carve_out_bytes=carve_out))
    return replace(machine, devices=tuple(devices), ram_available_bytes=max(0, available))


def _shortfall(plan: Plan, ledger: tuple[LedgerRow, ...], said: tuple[str, ...]) -> Shortfall:
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
        reasons=said,
        hints=(),
    )


def _reasons(plan: Plan, answer: Answer | Refusal, missing: Mapping[str, int]) -> tuple[str, ...]:
    if isinstance(answer, Refusal):
        if answer.model_refused:
            raise EngineFailed(
                f"llama.cpp would not load {plan.model_id} {plan.quant}: {answer.reason}",
                hint="launcher engine info shows the engine; choose another quant, or a newer --engine",
            )
        return (f"memory is estimated, not simulated: {answer.reason}",)
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
