"""One attempt: parameters and a machine in, a placement with its whole ledger out, fitting or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from launcher.gguf.architecture import Architecture, read_architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Machine
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.companions import NO_COMPANIONS, Companions
from launcher.plan.memory.budget import Budgets, DeviceBudget, read_budgets
from launcher.plan.memory.companion_memory import CompanionMemory, add_companions, size_companions
from launcher.plan.memory.host_memory import HostCaches, plan_caches
from launcher.plan.memory.ledger import Demand, build_ledger, demand_of, mark_assumed_weights
from launcher.plan.memory.simulated import placement_question
from launcher.plan.memory.weights import Weights, weigh
from launcher.plan.modes import TensorOverride
from launcher.plan.overrides import check_overrides
from launcher.plan.placement.numa import Cores, choose_cores
from launcher.plan.placement.placement import place
from launcher.plan.placement.settle import SettledParameters
from launcher.plan.plan import Placement
from launcher.plan.rope import Rope, context_limit
from launcher.plan.workload import Limits, Workload

_MODELS_OWN = Rope()
_ROUNDS = 8
"""Companions follow the model's devices, and these follow from the room that companions leave: two or three rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanningCase:
    """One model on one machine, read once for all attempts. `budgets` are what the model may use, `all_budgets` what
    there is: companions can be sent to any device."""

    model: ModelFile
    quant: str
    machine: Machine
    architecture: Architecture
    weights: Weights
    budgets: Budgets
    all_budgets: Budgets
    companions: Companions = NO_COMPANIONS


def read_case(
    model: ModelFile,
    quant: str,
    machine: Machine,
    limits: Limits | None = None,
    companions: Companions = NO_COMPANIONS,
    overrides: tuple[TensorOverride, ...] = (),
    rope: Rope = _MODELS_OWN,
) -> PlanningCase:
    """A model on a machine, and what is loaded beside it, read once; its training context is what `rope` makes of it.
    Raises UsageError for overrides that cannot be."""
    architecture = read_architecture(model.metadata, model.tensors)
    architecture = replace(architecture, n_ctx_train=context_limit(model.metadata, rope))
    limits = limits or Limits()
    budgets = read_budgets(machine, limits)
    devices = [budget.device for budget in budgets.devices]
    names = [tensor.name for tensor in model.tensors]
    check_overrides(overrides, [device.id for device in devices], names, model.model_id)
    return PlanningCase(
        model=model,
        quant=quant,
        machine=machine,
        architecture=architecture,
        weights=weigh(architecture, model.tensors, {device.backend for device in devices}, overrides),
        budgets=budgets,
        all_budgets=read_budgets(machine, replace(limits, gpus=None)),
        companions=companions,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """`own` are the rows of the model alone, its prompt cache included; `ledger` those with `companions`, what its companions
    take, as far as it is known before a simulation."""

    settled: SettledParameters
    demand: Demand
    placement: Placement
    own: tuple[LedgerRow, ...]
    companions: CompanionMemory
    ledger: tuple[LedgerRow, ...]
    caches: HostCaches
    cores: Cores

    @property
    def fits(self) -> bool:
        return all(row.free_bytes >= 0 for row in self.ledger)


def arrange(
    case: PlanningCase,
    settled: SettledParameters,
    workload: Workload,
    surplus: Mapping[str, int] | None = None,
) -> Arrangement:
    """Place the model as well as it goes in what its companions leave, then give the host's rest to its caches.

    `surplus` says, where a simulation has shown it, by how much our own figures for a row are too high (or,
    negative, too low); placement and caches then reckon with that.
    """
    surplus = surplus or {}
    demand = demand_of(case.architecture, case.weights, settled.parameters, workload.adapters)
    corrected = _corrected(case.budgets, surplus)
    kept: dict[str, int] = {}
    seen: set[tuple[str, ...]] = set()
    for _ in range(_ROUNDS):
        placement = place(demand, _without(corrected, kept))
        own = mark_assumed_weights(case.model, build_ledger(demand, placement, case.budgets))
        held = _held(case, settled, placement, own)
        need = held.used_bytes
        if all(n_bytes <= kept.get(where, 0) for where, n_bytes in need.items()):
            break
        if (
            placement.devices in seen
        ):  # they wander with the placement: every place they were seen in is kept free
            need = {where: max(need.get(where, 0), kept.get(where, 0)) for where in {**kept, **need}}
        seen.add(placement.devices)
        kept = need
    whole = add_companions(own, held.rows, case.all_budgets)
    caches = plan_caches(demand, workload, whole[-1].free_bytes + surplus.get(HOST, 0))
    ledger = _with_caches(whole, caches)
    return Arrangement(
        settled=settled,
        demand=demand,
        placement=placement,
        own=_with_caches(own, caches),
        companions=held,
        ledger=ledger,
        caches=caches,
        cores=choose_cores(case.machine, workload, ledger[-1], computes=_host_computes(case, placement)),
    )


def _host_computes(case: PlanningCase, placement: Placement) -> bool:
    """Whether blocks, experts, or tensors sent there, are computed with on the host."""
    return (
        placement.n_gpu_layers <= placement.n_block
        or bool(placement.host_expert_blocks or placement.host_expert_parts)
        or case.weights.stuck_bytes > 0
        or case.weights.overridden_on(HOST).n_tensors > 0
    )


def _held(
    case: PlanningCase, settled: SettledParameters, placement: Placement, own: tuple[LedgerRow, ...]
) -> CompanionMemory:
    if case.companions.draft is None and case.companions.projector is None:
        return CompanionMemory()
    main = placement_question(settled.parameters, placement, "", case.machine.devices)
    return size_companions(case.companions, main, case.machine, own, ask_about_draft=False)


def _with_caches(rows: tuple[LedgerRow, ...], caches: HostCaches) -> tuple[LedgerRow, ...]:
    return (*rows[:-1], replace(rows[-1], cache=caches.amount))


def _corrected(budgets: Budgets, surplus: Mapping[str, int]) -> Budgets:
    if not surplus:
        return budgets
    return replace(
        budgets,
        host_bytes=max(budgets.host_bytes + surplus.get(HOST, 0), 0),
        devices=tuple(
            replace(budget, n_bytes=max(budget.n_bytes + surplus.get(budget.device.id, 0), 0))
            for budget in budgets.devices
        ),
    )


def _without(budgets: Budgets, kept: Mapping[str, int]) -> Budgets:
    """What companions leave. What a device takes of the host's memory, the host lacks."""
    host = budgets.host_bytes - kept.get(HOST, 0)
    devices: list[DeviceBudget] = []
    for budget in budgets.devices:
        device, n_bytes = budget.device, kept.get(budget.device.id, 0)
        if device.shares_host_memory:
            own = min(device.carve_out_bytes, n_bytes)
            host -= n_bytes - own
            device = replace(device, carve_out_bytes=device.carve_out_bytes - own)
        devices.append(replace(budget, device=device, n_bytes=max(budget.n_bytes - n_bytes, 0)))
    return replace(budgets, host_bytes=max(host, 0), devices=tuple(devices))
