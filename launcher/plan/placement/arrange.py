"""Arrange a model on a machine under given parameters: a placement with its whole ledger. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Device, Machine
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.companions import MTP, NO_COMPANIONS, Companions
from launcher.plan.memory import ik
from launcher.plan.memory.budget import Budgets, DeviceBudget, as_in_file, read_budgets
from launcher.plan.memory.companion_memory import CompanionMemory, add_companions, size_companions
from launcher.plan.memory.draft_memory import MainModel
from launcher.plan.memory.host_memory import HostCaches, plan_caches
from launcher.plan.memory.ledger import (
    Demand,
    build_ledger,
    demand_of,
    host_experts,
    mark_assumed_weights,
    spread_out,
    with_paged,
)
from launcher.plan.memory.simulated import placement_question
from launcher.plan.memory.tables import find_tables, settled_lazy_mode
from launcher.plan.memory.weights import Weights, weigh
from launcher.plan.modes import Dialect, LazyMode, LoadMode
from launcher.plan.overrides import check_overrides
from launcher.plan.placement.left_out import most_freed, smaller_budgets
from launcher.plan.placement.numa import Cores, choose_cores
from launcher.plan.placement.placement import place
from launcher.plan.placement.settle import SettledParameters
from launcher.plan.plan import LeftOut, Placement
from launcher.plan.rope import context_limit
from launcher.plan.workload import Limits, Workload

# Companions follow the model's devices, and these follow from the memory that companions leave. Two or
# three rounds are usual.
_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningCase:
    """One model on one machine, read once for all attempts."""

    model: ModelFile
    quant: str
    machine: Machine
    architecture: Architecture
    weights: Weights
    budgets: Budgets  # what the model may use
    all_budgets: Budgets  # of every device, because companions can be sent to any
    companions: Companions = NO_COMPANIONS


def read_case(
    model: ModelFile,
    quant: str,
    machine: Machine,
    workload: Workload,
    limits: Limits,
    companions: Companions = NO_COMPANIONS,
) -> PlanningCase:
    """Read a model once for all attempts, under the overrides and RoPE scaling of `workload`.

    Raises UsageError for an override whose device or tensors are not there.
    """
    architecture = read_architecture(model.metadata, model.tensors)
    limit = context_limit(model.metadata, workload.rope)
    architecture = replace(architecture, n_ctx_train=limit)
    if workload.dialect is Dialect.IK:
        architecture = ik.as_read(architecture)
    budgets = read_budgets(machine, limits)
    devices = [budget.device for budget in budgets.devices]
    names = [tensor.name for tensor in model.tensors]
    check_overrides(workload.overrides, [device.id for device in devices], names, model.model_id)
    weights = weigh(
        architecture,
        model.tensors,
        {device.backend for device in devices},
        workload.overrides,
        _tables(architecture, model, devices, workload),
        load_mtp=MTP in companions.spec_types,
    )
    if workload.dialect is Dialect.IK:
        weights = ik.with_derived_weights(weights, architecture, model.tensors)
    return PlanningCase(
        model=model,
        quant=quant,
        machine=machine,
        architecture=architecture,
        weights=weights,
        budgets=budgets,
        all_budgets=read_budgets(machine, replace(limits, gpus=None)),
        companions=companions,
    )


def _tables(
    architecture: Architecture, model: ModelFile, devices: Sequence[Device], workload: Workload
) -> frozenset[str]:
    """Return the names of the tables that are read by rows from the file, whatever the placement is."""
    lazy = settled_lazy_mode(workload.lazy_mode or LazyMode.AUTO, devices)
    # host_memory.choose_load_mode maps the file for devices that share the host's memory
    share = bool(devices) and all(device.shares_host_memory for device in devices)
    mapped = workload.load_mode is LoadMode.MMAP or (workload.load_mode is None and share)
    return find_tables(architecture, model.tensors, lazy, mapped=mapped, overrides=workload.overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A model placed on a machine, fitting or not."""

    settled: SettledParameters
    demand: Demand
    placement: Placement
    own: tuple[LedgerRow, ...]  # the model alone, with its prompt cache
    companions: CompanionMemory  # as far as it is known before a simulation
    ledger: tuple[LedgerRow, ...]  # with companions
    caches: HostCaches
    cores: Cores
    left_out: LeftOut | None = None

    @property
    def fits(self) -> bool:
        return all(row.free_bytes >= 0 for row in self.ledger)

    def least_free(self, surplus: Mapping[str, int]) -> int:
        """Return the free bytes of the row that has least, negative if it lacks some."""
        return min(row.free_bytes + surplus.get(row.where, 0) for row in self.ledger)


def arrange(
    case: PlanningCase,
    settled: SettledParameters,
    workload: Workload,
    surplus: Mapping[str, int] | None = None,
) -> Arrangement:
    """Place the model in the memory that its companions leave, and give the host's rest to its caches."""
    # `surplus`: bytes by which formulas are too high for a row (negative: too low), as a simulation has
    # shown.
    surplus = surplus or {}
    if workload.from_disk:
        resident = arrange(case, settled, replace(workload, from_disk=False), surplus)
        if resident.least_free(surplus) >= 0:
            return resident  # leaving a device out is better than reading from the disk
        # what is read from the file has to be its pages: then nothing is repacked
        budgets, every = as_in_file(case.budgets), as_in_file(case.all_budgets)
        in_file = replace(case, budgets=budgets, all_budgets=every)
        paged = _arrange_within(in_file, settled, workload, surplus)
        if paged.placement.paged_bytes:
            return paged
    return _arrange_within(case, settled, workload, surplus)


def _arrange_within(
    case: PlanningCase,
    settled: SettledParameters,
    workload: Workload,
    surplus: Mapping[str, int],
) -> Arrangement:
    """Arrange the model on all devices, or on fewer where the host lacks what they take of it."""
    parameters = replace(settled.parameters, n_rs_seq=case.companions.n_rs_seq)
    settled = replace(settled, parameters=parameters)
    demand = demand_of(case.architecture, case.weights, settled.parameters, workload.adapters)
    budgets = _corrected(case.budgets, surplus)
    fullest = _arrange_on(budgets, case, settled, workload, demand, surplus)
    missing = -(fullest.ledger[-1].free_bytes + surplus.get(HOST, 0))
    # Where more is missing, the model is too large whatever is left out.
    if missing <= 0 or missing > most_freed(fullest.own, case.budgets):
        return fullest
    best = last = fullest
    for smaller in smaller_budgets(budgets, case.weights.overridden_devices):
        if set(last.placement.devices) <= {budget.device.id for budget in smaller.devices}:
            continue  # it would be the same
        last = _arrange_on(smaller, case, settled, workload, demand, surplus)
        if last.least_free(surplus) > best.least_free(surplus):
            left_out = tuple(name for name in fullest.placement.devices if name not in last.placement.devices)
            best = replace(last, left_out=LeftOut(devices=left_out, missing_bytes=missing))
        if best.least_free(surplus) >= 0:
            break  # the most devices with which it fits
    return best


def _arrange_on(
    budgets: Budgets,
    case: PlanningCase,
    settled: SettledParameters,
    workload: Workload,
    demand: Demand,
    surplus: Mapping[str, int],
) -> Arrangement:
    """Arrange the model on the devices of these budgets."""
    placement, own, companions = _place_with_companions(case, settled, demand, budgets)
    whole = add_companions(own, companions.rows, case.all_budgets)
    free = whole[-1].free_bytes + surplus.get(HOST, 0)
    caches = plan_caches(demand, workload, free)
    if paged := _paged_bytes(case, placement, workload, missing=caches.amount.n_bytes - free):
        placement = replace(placement, paged_bytes=paged)
        own, whole = with_paged(own, paged), with_paged(whole, paged)
    ledger = _with_caches(whole, caches)
    return Arrangement(
        settled=settled,
        demand=demand,
        placement=placement,
        own=_with_caches(own, caches),
        companions=companions,
        ledger=ledger,
        caches=caches,
        cores=choose_cores(
            case.machine, workload, ledger[-1], computes=_host_computes(case, placement, companions)
        ),
    )


def _paged_bytes(case: PlanningCase, placement: Placement, workload: Workload, *, missing: int) -> int:
    """Return the bytes of the host's experts that are left to the file where so much RAM is missing."""
    if not workload.from_disk or missing <= 0 or workload.dialect is Dialect.IK:
        return 0
    if workload.load_mode not in {None, LoadMode.MMAP}:
        return 0  # the user's choice: all of it is in memory then
    in_use = [device for device in case.machine.devices if device.id in placement.devices]
    if any(device.shares_host_memory for device in in_use):
        return 0  # a device's buffers hold what it computes with
    return min(missing, host_experts(case.weights, spread_out(placement)))


def _place_with_companions(
    case: PlanningCase, settled: SettledParameters, demand: Demand, budgets: Budgets
) -> tuple[Placement, tuple[LedgerRow, ...], CompanionMemory]:
    reserved: dict[str, int] = {}  # for companions, by place
    tried: set[tuple[str, ...]] = set()  # devices of placements so far
    for _ in range(_ROUNDS):
        placement = place(demand, _without(budgets, reserved))
        own = mark_assumed_weights(case.model, build_ledger(demand, placement, case.budgets))
        companions = _size_companions(case, settled, placement, own)
        need = companions.used_bytes
        if all(n_bytes <= reserved.get(where, 0) for where, n_bytes in need.items()):
            break
        if placement.devices in tried:
            # The companions move with the placement: reserve memory in every place where they have been.
            need = {where: max(need.get(where, 0), reserved.get(where, 0)) for where in {**reserved, **need}}
        tried.add(placement.devices)
        reserved = need
    return placement, own, companions


def _host_computes(case: PlanningCase, placement: Placement, companions: CompanionMemory) -> bool:
    """Return whether the host computes with blocks, experts, companions or what overrides send there."""
    return (
        placement.n_gpu_layers <= placement.n_block
        or bool(placement.host_expert_blocks or placement.host_expert_parts)
        or case.weights.stuck_bytes > 0
        or case.weights.overridden_on(HOST).n_tensors > 0
        or HOST in companions.used_bytes
    )


def _size_companions(
    case: PlanningCase, settled: SettledParameters, placement: Placement, own: tuple[LedgerRow, ...]
) -> CompanionMemory:
    if case.companions.is_empty:
        return CompanionMemory()
    question = placement_question(settled.parameters, placement, "", case.machine.devices)
    question = case.companions.of_main(question)
    main = MainModel(question=question, model=case.model, ledger=own)
    return size_companions(case.companions, main, case.machine)


def _with_caches(rows: tuple[LedgerRow, ...], caches: HostCaches) -> tuple[LedgerRow, ...]:
    return (*rows[:-1], replace(rows[-1], cache=caches.amount))


def _corrected(budgets: Budgets, surplus: Mapping[str, int]) -> Budgets:
    if not surplus:
        return budgets
    pool = budgets.pool_bytes
    return replace(
        budgets,
        host_bytes=max(budgets.host_bytes + surplus.get(HOST, 0), 0),
        pool_bytes=None if pool is None else max(pool + surplus.get(HOST, 0), 0),
        devices=tuple(
            replace(budget, n_bytes=max(budget.n_bytes + surplus.get(budget.device.id, 0), 0))
            for budget in budgets.devices
        ),
    )


def _without(budgets: Budgets, reserved: Mapping[str, int]) -> Budgets:
    host = budgets.host_bytes - reserved.get(HOST, 0)
    pool = None if budgets.pool_bytes is None else budgets.pool_bytes - reserved.get(HOST, 0)
    devices: list[DeviceBudget] = []
    for budget in budgets.devices:
        device, n_bytes = budget.device, reserved.get(budget.device.id, 0)
        if device.lies_in_ram:
            own = min(device.carve_out_bytes, n_bytes)
            host -= (n_bytes - own) * budget.in_ram  # beyond its carve-out it takes the host's memory
            pool = None if pool is None else pool - (n_bytes - own)
            device = replace(device, carve_out_bytes=device.carve_out_bytes - own)
        devices.append(replace(budget, device=device, n_bytes=max(budget.n_bytes - n_bytes, 0)))
    pool = None if pool is None else max(pool, 0)
    return replace(budgets, host_bytes=max(host, 0), pool_bytes=pool, devices=tuple(devices))
