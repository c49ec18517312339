"""Make a plan of an arrangement: derive the remaining settings and give every choice a reason."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.errors import BadGguf, LauncherError
from launcher.gguf.tensor_names import block_of
from launcher.machine.machine import Peer
from launcher.plan.amounts import HOST, LedgerRow
from launcher.plan.expert_pattern import EXPERTS, matched_names, placement_pattern
from launcher.plan.memory.host_memory import LoadFacts, choose_load_mode
from launcher.plan.memory.tables import describe_tables
from launcher.plan.modes import LazyMode
from launcher.plan.overrides import first_match
from launcher.plan.parameters import context_fields
from launcher.plan.placement.arrange import Arrangement, PlanningCase
from launcher.plan.placement.numa import describe_page_placement
from launcher.plan.placement.pace import forecast_placement
from launcher.plan.placement.settle import describe_pool
from launcher.plan.plan import Placement, Plan
from launcher.plan.reasons import (
    describe_budgets,
    describe_companions,
    describe_placement,
    describe_whole_texts,
)
from launcher.plan.workload import Workload
from launcher.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    ledger: tuple[LedgerRow, ...]
    engine: str  # the llama.cpp that answered
    remarks: tuple[str, ...] = ()
    unverified: str | None = None  # why it gave no answer about a companion


def compose(
    case: PlanningCase,
    workload: Workload,
    arrangement: Arrangement,
    ctx_reason: str,
    *,
    simulated: SimulationResult | None = None,
) -> Plan:
    """Return the plan of an arrangement that fits, with the simulated ledger if there is one."""
    settled, placement = arrangement.settled, arrangement.placement
    parameters, cores = settled.parameters, arrangement.cores
    _check_pattern(case, placement)
    load_mode, load_reason = choose_load_mode(workload, _load_facts(case, arrangement))
    return Plan(
        model_id=case.model.model_id,
        source=case.model.source,
        quant=case.quant,
        size_bytes=case.model.size_bytes,
        **context_fields(parameters),
        load_mode=load_mode,
        lazy_mode=workload.lazy_mode or LazyMode.AUTO,
        cache_ram_bytes=arrangement.caches.cache_ram_bytes,
        ctx_checkpoints=arrangement.caches.ctx_checkpoints,
        threads=cores.threads,
        placement=placement,
        peers=_peers(case),
        ledger=simulated.ledger if simulated else arrangement.ledger,
        reasons=(
            *_describe_layout(case, arrangement, ctx_reason, simulated),
            load_reason,
            *_describe_tables(case, arrangement),
            *arrangement.caches.reasons,
            *cores.reasons,
            *describe_page_placement(cores.numa, load_mode),
            *_describe_memory(case, workload, arrangement, simulated),
        ),
        numa=cores.numa,
        cpus=cores.cpus,
        forecast=None
        if _crosses_network(case, placement)
        else forecast_placement(arrangement.demand, placement, case.machine, cores.processor),
        simulated_by=simulated.engine if simulated else None,
        unverified=simulated.unverified if simulated else arrangement.companions.unanswered,
    )


def _peers(case: PlanningCase) -> tuple[Peer, ...]:
    """Return where RPC0, RPC1 and on are, in the order of their numbers."""
    remote = {device.id: device.peer for device in case.machine.devices if device.peer is not None}
    return tuple(remote[f"RPC{number}"] for number in range(len(remote)))


def _crosses_network(case: PlanningCase, placement: Placement) -> bool:
    # no speed is predicted over a network whose delay nobody has measured
    return any(device.peer is not None and device.id in placement.devices for device in case.machine.devices)


def _describe_layout(
    case: PlanningCase, arrangement: Arrangement, ctx_reason: str, simulated: SimulationResult | None
) -> tuple[str, ...]:
    ledger = simulated.ledger if simulated else arrangement.ledger
    kv_bytes = sum(row.kv.n_bytes for row in ledger)
    parameters = arrangement.settled.parameters
    return (
        *describe_placement(arrangement.demand, arrangement.placement, case.budgets, arrangement.left_out),
        describe_pool(parameters, kv_bytes, ctx_reason, case.architecture.n_ctx_train),
        *describe_whole_texts(case.model.metadata, parameters),
        *arrangement.settled.reasons,
    )


def _describe_tables(case: PlanningCase, arrangement: Arrangement) -> tuple[str, ...]:
    used = [device for device in case.machine.devices if device.id in arrangement.placement.devices]
    return describe_tables(case.model.tensors, case.model.metadata, case.weights.in_file, used)


def _describe_memory(
    case: PlanningCase, workload: Workload, arrangement: Arrangement, simulated: SimulationResult | None
) -> tuple[str, ...]:
    return (
        *(f"{extra.name}: {format_bytes(extra.amount.n_bytes)} besides" for extra in workload.adapters),
        *describe_budgets(case.machine, case.budgets),
        *(simulated.remarks if simulated else describe_companions(arrangement.companions)),
    )


def _load_facts(case: PlanningCase, arrangement: Arrangement) -> LoadFacts:
    placement = arrangement.placement
    shared = {device.id for device in case.machine.devices if device.shares_host_memory}
    part_on_host = (
        placement_pattern(placement) is not None
        or placement.n_gpu_layers <= placement.n_block
        or case.weights.overridden_on(HOST).n_tensors > 0
    )
    return LoadFacts(
        file_bytes=case.model.size_bytes,
        host_bytes=arrangement.own[-1].weights.n_bytes,
        offloads=bool(placement.devices) and part_on_host,
        shares_memory=bool(shared & set(placement.devices)),
        ram_bytes=case.budgets.host_bytes,
        paged_bytes=placement.paged_bytes,
    )


def _check_pattern(case: PlanningCase, placement: Placement) -> None:
    """Raise BadGguf if the plan's tensor override matches a tensor that only resembles what it is for."""
    # llama-server says nothing about a pattern that matches too little, so every tensor name is compared.
    pattern = placement_pattern(placement)
    if pattern is None:
        return
    parts = dict(placement.host_expert_parts)
    blocks = {*placement.host_expert_blocks, *parts}
    # The user's overrides go first on the command line; ours gets the names that they leave.
    # Where there is no device, nothing was weighed as moved by them.
    sent_to = first_match(placement.overrides if case.weights.overridden else ())
    model = case.model
    names = [tensor.name for tensor in model.tensors if sent_to(tensor.name) is None]
    experts = matched_names(EXPERTS, names)
    expected = {
        name
        for name in experts
        if (block := block_of(name)) in placement.host_expert_blocks
        or (block in parts and _kind_of(name) in parts[block])
    }
    matched = set(matched_names(pattern, names))
    if odd := sorted(matched ^ expected):
        raise BadGguf(
            f"tensor {odd[0]!r} of {model.model_id} is named like routed experts of a block and is none of "
            "them: no override can move them alone",
            hint="look for another file of this model: llama.cpp knows no tensor of that name",
        )
    if {block_of(name) for name in matched} != blocks:
        raise LauncherError(f"the tensor override of this plan is wrong about blocks {sorted(blocks)}")


def _kind_of(name: str) -> str | None:
    match = re.search(EXPERTS, name)
    return match[1] if match else None
