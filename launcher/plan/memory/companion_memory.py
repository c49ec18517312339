"""What companions hold, place by place: asked of the simulator, estimated where it cannot run, added to a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.errors import EngineFailed, UsageError
from launcher.gguf.architecture import read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Device, Machine
from launcher.plan.amounts import HOST, MOST_CERTAIN_FIRST, NOTHING, Amount, Basis, LedgerRow
from launcher.plan.companions import DraftRequest, ProjectorRequest
from launcher.plan.memory.assign import assign
from launcher.plan.memory.budget import Budgets, DeviceBudget, free_bytes, read_budgets
from launcher.plan.memory.estimate import count_question, demand_of_question
from launcher.plan.memory.projector import compute_growth, estimate_compute
from launcher.plan.memory.simulated import simulated_ledger
from launcher.plan.modes import SplitMode
from launcher.plan.oracle import BufferRow, Oracle, ProjectorOracle, ProjectorQuestion, Question, Refusal
from launcher.units import format_bytes

_HEAD_TYPES = ("draft-mtp", "draft-eagle3", "draft-dflash", "draft-dspark")
"""Ways of drafting whose model works on the main model's states (common/speculative.cpp): its context cannot be made
without the main one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A draft model, its headers read. `path` is its first shard's, `oracle` who simulates it."""

    request: DraftRequest
    model: ModelFile
    path: str
    oracle: Oracle


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector:
    """A projector, its header read."""

    request: ProjectorRequest
    model: ModelFile
    path: str
    oracle: ProjectorOracle


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """What is loaded beside the model; nothing by default."""

    draft: Draft | None = None
    projector: Projector | None = None
    n_draft: int = 0


NO_COMPANIONS = Companions()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionRow:
    """What companions hold in one place."""

    where: str
    weights: Amount = NOTHING
    kv: Amount = NOTHING
    compute: Amount = NOTHING

    @property
    def used_bytes(self) -> int:
        """The most it can be: every amount at the upper end of its band."""
        return sum(amount.n_bytes + amount.band_bytes for amount in (self.weights, self.kv, self.compute))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionMemory:
    """All that companions hold, one entry per place, and sentences on it."""

    rows: tuple[CompanionRow, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def used_bytes(self) -> dict[str, int]:
        return {part.where: part.used_bytes for part in self.rows}


def size_companions(
    companions: Companions,
    main: Question,
    machine: Machine,
    ledger: Sequence[LedgerRow],
    *,
    ask_about_draft: bool = True,
) -> CompanionMemory:
    """What the companions of `main` hold, whose own rows are `ledger`.

    A projector is the same beside most plans, and asked about; a draft model changes with each: while plans are only
    compared it is counted by the formulas, without `ask_about_draft`. Raises EngineFailed for a file that llama.cpp refuses to load, UsageError for a device that is not there.
    """
    held: list[CompanionRow] = []
    reasons: list[str] = []
    if companions.draft is not None:
        parts, how = _draft(companions.draft, main, machine, ledger, ask=ask_about_draft)
        held += parts
        reasons.append(_sentence("draft model", companions.draft.model, parts, how))
    if companions.projector is not None:
        parts, how = _projector(companions.projector, main, machine)
        held += parts
        reasons.append(_sentence("projector", companions.projector.model, parts, how))
    return CompanionMemory(rows=_by_place(held), reasons=tuple(reasons))


def add_companions(
    ledger: Sequence[LedgerRow], held: Iterable[CompanionRow], budgets: Budgets
) -> tuple[LedgerRow, ...]:
    """The ledger with what companions hold in it, against these budgets; a device that only they use gets
    a row of its own. What shared devices take of the host's memory comes off the host's, as in `build_ledger`."""
    parts = {part.where: part for part in held}
    rows = {row.where: _with(row, parts.get(row.where)) for row in ledger}
    devices = []
    shared = 0
    for budget in budgets.devices:
        part, row = parts.get(budget.device.id), rows.get(budget.device.id)
        if row is None and part is None:
            continue
        row = row or _with(_empty_row(budget), part)
        devices.append(replace(row, budget_bytes=budget.n_bytes))
        if budget.device.shares_host_memory:
            shared += max(row.used_bytes - budget.device.carve_out_bytes, 0)
    host = replace(rows[HOST], budget_bytes=max(budgets.host_bytes - shared, 0))
    return (*devices, host)


def _empty_row(budget: DeviceBudget) -> LedgerRow:
    return LedgerRow(
        where=budget.device.id,
        name=budget.device.name,
        weights=NOTHING,
        kv=NOTHING,
        compute=NOTHING,
        cache=NOTHING,
        overhead=budget.overhead,
        budget_bytes=budget.n_bytes,
    )


def _with(row: LedgerRow, part: CompanionRow | None) -> LedgerRow:
    if part is None:
        return row
    return replace(
        row,
        weights=add_amounts(row.weights, part.weights),
        kv=add_amounts(row.kv, part.kv),
        compute=add_amounts(row.compute, part.compute),
    )


def add_amounts(first: Amount, second: Amount) -> Amount:
    """Both together, as sure as the less sure of those that are anything."""
    counted = [amount for amount in (first, second) if amount.n_bytes or amount.band_bytes]
    if len(counted) < 2:
        return counted[0] if counted else first
    return Amount(
        n_bytes=first.n_bytes + second.n_bytes,
        basis=max((first.basis, second.basis), key=MOST_CERTAIN_FIRST.index),
        band_bytes=first.band_bytes + second.band_bytes,
    )


def _draft(
    draft: Draft, main: Question, machine: Machine, ledger: Sequence[LedgerRow], *, ask: bool
) -> tuple[tuple[CompanionRow, ...], str]:
    question = draft_question(draft, main, machine.devices, ledger)
    if not ask:
        return _rows(_estimated_draft(draft.model, question, machine)), "estimated"
    answer = draft.oracle.simulate(question)
    if isinstance(answer, Refusal):
        _check(answer, draft.model)
        return _rows(_estimated_draft(draft.model, question, machine)), f"estimated: {answer.reason}"
    how = f"simulated by {answer.engine}"
    if answer.other_cpu:
        return _rows(simulated_ledger(_estimated_draft(draft.model, question, machine), answer)), how
    return _simulated(answer.rows), how


def _projector(
    projector: Projector, main: Question, machine: Machine
) -> tuple[tuple[CompanionRow, ...], str]:
    """Weights are exact either way: all that is in the file goes to one place."""
    question = projector_question(projector, main, machine.devices)
    more = compute_growth(projector.model, projector.request.image_max_tokens, question.flash_attn)
    answer = projector.oracle.simulate_projector(question)
    if isinstance(answer, Refusal):
        _check(answer, projector.model)
        part = CompanionRow(
            where=question.where,
            weights=Amount(
                n_bytes=sum(tensor.size_bytes for tensor in projector.model.tensors), basis=Basis.EXACT
            ),
            compute=estimate_compute(projector.model, question.flash_attn),
        )
        return (_grown(part, more.factor),), f"compute estimated: {answer.reason}{more.sentence}"
    parts = tuple(_grown(part, more.factor) for part in _simulated(answer.rows))
    return parts, f"simulated by {answer.engine}{more.sentence}"


def _grown(part: CompanionRow, factor: float) -> CompanionRow:
    """With room for what its compute can grow to while it serves."""
    compute = part.compute
    room = round(compute.n_bytes * (factor - 1))
    return replace(part, compute=replace(compute, band_bytes=compute.band_bytes + room))


def _check(refusal: Refusal, model: ModelFile) -> None:
    if refusal.model_refused:
        raise EngineFailed(
            f"llama.cpp would not load {model.source}: {refusal.reason}",
            hint="launcher engine info shows the engine; leave the file out, or choose another",
        )


def _simulated(rows: Iterable[BufferRow]) -> tuple[CompanionRow, ...]:
    return _by_place(
        CompanionRow(
            where=row.where,
            weights=_amount(row.weights_bytes),
            kv=_amount(row.kv_bytes + row.recurrent_bytes),
            compute=_amount(row.compute_bytes + row.output_bytes),
        )
        for row in rows
    )


def _amount(n_bytes: int) -> Amount:
    return Amount(n_bytes=n_bytes, basis=Basis.SIMULATED)


def _by_place(parts: Iterable[CompanionRow]) -> tuple[CompanionRow, ...]:
    found: dict[str, CompanionRow] = {}
    for part in parts:
        before = found.get(part.where, CompanionRow(where=part.where))
        found[part.where] = CompanionRow(
            where=part.where,
            weights=add_amounts(before.weights, part.weights),
            kv=add_amounts(before.kv, part.kv),
            compute=add_amounts(before.compute, part.compute),
        )
    return tuple(part for part in found.values() if part.used_bytes)


def _estimated_draft(model: ModelFile, question: Question, machine: Machine) -> tuple[LedgerRow, ...]:
    """The analytic ledger of a model that llama.cpp divides by itself."""
    architecture = read_architecture(model.metadata, model.tensors)
    return count_question(
        demand_of_question(question, architecture, model),
        question,
        assign(question, architecture, model.tensors),
        read_budgets(replace(machine, devices=question.devices)),
    )


def _rows(ledger: Iterable[LedgerRow]) -> tuple[CompanionRow, ...]:
    return _by_place(
        CompanionRow(where=row.where, weights=row.weights, kv=row.kv, compute=row.compute) for row in ledger
    )


def _sentence(what: str, model: ModelFile, parts: Sequence[CompanionRow], how: str) -> str:
    places = "; ".join(f"{part.where} {_sizes(part)}" for part in parts)
    return f"{what} {model.model_id} in the ledger: {places} ({how})"


def _sizes(part: CompanionRow) -> str:
    named: Mapping[str, Amount] = {"weights": part.weights, "cache": part.kv, "compute": part.compute}
    return ", ".join(
        f"{format_bytes(amount.n_bytes)} {name}" for name, amount in named.items() if amount.n_bytes
    )


def needs_main_context(spec_types: Sequence[str], model: ModelFile) -> bool:
    """Whether this draft model cannot be simulated by itself: so says `--spec-type`, or its header where that is left
    open (common_speculative_types_from_gguf)."""
    if any(name in _HEAD_TYPES for name in spec_types):
        return True
    architecture = model.metadata.get("general.architecture")
    return architecture in {"dflash", "eagle3", "gemma4-assistant"} or any(
        ".nextn.eh_proj." in tensor.name for tensor in model.tensors
    )


def draft_question(
    draft: Draft, main: Question, devices: Sequence[Device], ledger: Sequence[LedgerRow]
) -> Question:
    """The draft model as llama-server loads it beside `main`: the same pool, slots, batches and split, its own layers,
    devices and cache types (common_base_params_to_speculative, common/speculative.cpp at 0c1e570).

    `devices` are the machine's; `ledger` is what `main` holds of them: a split by free memory sees the rest. Raises
    UsageError for a device that is not there.
    """
    wish = draft.request
    if wish.devices is None:
        used = main.devices
    else:
        used = tuple(_device(name, devices, "-devd") for name in wish.devices)
    split = main.tensor_split[: len(used)] if len(main.devices) > 1 else ()
    split = split if any(split) else ()
    if len(used) > 1 and not split:
        held = {row.where: row.used_bytes for row in ledger}
        used = tuple(
            replace(device, free_bytes=max(free_bytes(device) - held.get(device.id, 0), 0)) for device in used
        )
    alone = wish.devices is not None and len(used) == 1
    return replace(
        main,
        model=draft.path,
        devices=used,
        split_mode=SplitMode.LAYER if alone else main.split_mode,
        cache_type_k=wish.cache_type_k,
        cache_type_v=wish.cache_type_v,
        overrides=wish.overrides,
        tensor_split=split,
        n_gpu_layers=wish.n_gpu_layers,
        n_outputs=None,
        n_draft=0,
    )


def projector_question(projector: Projector, main: Question, devices: Sequence[Device]) -> ProjectorQuestion:
    """The projector as llama-server loads it beside `main`: on the first device in use unless told otherwise
    (common_params_parse_ex, common/arg.cpp). Raises UsageError for a device that is not there."""
    wish = projector.request
    where = wish.where
    if where is None:
        where = main.devices[0].id if main.devices else HOST
    used = main.devices
    if where != HOST and where not in {device.id for device in used}:
        used = (*used, _device(where, devices, "-mmdev"))
    return ProjectorQuestion(
        model=projector.path,
        devices=used,
        where=where,
        flash_attn=main.flash_attn,
        image_min_tokens=wish.image_min_tokens,
        image_max_tokens=wish.image_max_tokens,
    )


def _device(name: str, devices: Sequence[Device], flag: str) -> Device:
    for device in devices:
        if device.id == name:
            return device
    there = ", ".join(device.id for device in devices) or "no device"
    raise UsageError(
        f"{flag} names {name}, and this machine has {there}",
        hint="launcher probe shows the devices",
    )
