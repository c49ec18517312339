"""Build the ledger of a placement by formulas: one row per device in use, then the host's. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.gguf.architecture import Architecture
from launcher.gguf.model import ModelFile
from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST, NOTHING, Amount, Basis, LedgerRow
from launcher.plan.memory.budget import Budgets, DeviceBudget
from launcher.plan.memory.compute import Role, device_compute, host_compute, size_graph
from launcher.plan.memory.kv import Caches, size_caches
from launcher.plan.memory.weights import TIED_TWICE, Weights
from launcher.plan.parameters import ContextParameters
from launcher.plan.plan import Placement
from launcher.plan.workload import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The needs of one model under one set of parameters, before it is placed."""

    architecture: Architecture
    weights: Weights
    parameters: ContextParameters
    caches: Caches
    adapters: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A placement with its layers written out."""

    devices: tuple[str, ...]
    shares: tuple[range, ...]  # the layers of each of `devices`
    host_layers: range
    host_experts: frozenset[int]
    host_parts: tuple[tuple[int, tuple[str, ...]], ...] = ()
    overridden: bool = False

    @property
    def pipeline(self) -> bool:
        """Whether llama.cpp runs the devices as a pipeline, which it does only if the host has no part."""
        # llama-context.cpp, the constructor: several devices, all layers on them, no tensor override.
        return len(self.shares) > 1 and not (
            self.host_layers or self.host_experts or self.host_parts or self.overridden
        )


def demand_of(
    architecture: Architecture,
    weights: Weights,
    parameters: ContextParameters,
    adapters: tuple[Adapter, ...] = (),
) -> Demand:
    return Demand(
        architecture=architecture,
        weights=weights,
        parameters=parameters,
        caches=size_caches(architecture, parameters),
        adapters=adapters,
    )


def adapter_amount(demand: Demand, *, first: bool) -> Amount:
    """Sum the adapters on the first place in use, or on another one."""
    amounts = [adapter.amount for adapter in demand.adapters if first or adapter.everywhere]
    bases = {amount.basis for amount in amounts}
    return Amount(
        n_bytes=sum(amount.n_bytes for amount in amounts),
        basis=Basis.ESTIMATED if Basis.ESTIMATED in bases else Basis.EXACT,
        band_bytes=sum(amount.band_bytes for amount in amounts),
    )


def spread_out(placement: Placement) -> Spread:
    # Counts in order, from the first layer that is on a device (src/llama-model.cpp, get_layer_buft_list).
    start = placement.n_block + 1 - placement.n_gpu_layers
    shares, at = [], start
    for count in placement.tensor_split:
        shares.append(range(at, at + count))
        at += count
    return Spread(
        devices=placement.devices,
        shares=tuple(shares),
        host_layers=range(start),
        host_experts=frozenset(placement.host_expert_blocks),
        host_parts=placement.host_expert_parts,
        overridden=bool(placement.overrides),
    )


def part_bytes(weights: Weights, spread: Spread) -> dict[int, int]:
    """Return the bytes on the host of each block whose experts are partly there."""
    return {
        block: sum(size for kind, size in weights.layers[block].expert_kinds if kind in kinds)
        for block, kinds in spread.host_parts
    }


def mark_assumed_weights(model: ModelFile, rows: tuple[LedgerRow, ...]) -> tuple[LedgerRow, ...]:
    """Mark the rows' weights as estimates if the tensors' types are assumed."""
    # Only the sum of all tensors is known then.
    if not model.assumed_types:
        return rows
    return tuple(replace(row, weights=replace(row.weights, basis=Basis.ESTIMATED)) for row in rows)


def build_ledger(
    demand: Demand, placement: Placement, budgets: Budgets, cache: Amount = NOTHING
) -> tuple[LedgerRow, ...]:
    spread = spread_out(placement)
    by_id = {budget.device.id: budget for budget in budgets.devices}
    used = [by_id[name] for name in placement.devices]
    rows = tuple(_device_row(demand, spread, index, budget) for index, budget in enumerate(used))
    host = _host_row(demand, spread, budgets, cache=cache)
    return with_shared_memory((*rows, replace(host, overhead=_host_overhead(budgets, used))), budgets)


def with_shared_memory(ledger: Sequence[LedgerRow], budgets: Budgets) -> tuple[LedgerRow, ...]:
    """Return the ledger with the host's budget less what devices take of its memory."""
    by_id = {budget.device.id: budget for budget in budgets.devices}
    *rows, host = ledger
    used = [(by_id[row.where], row.used_bytes) for row in rows]
    shared = [budget.taken_bytes(n_bytes) if budget.in_ram else 0 for budget, n_bytes in used]
    return (
        *(replace(row, shared_bytes=n_bytes) for row, n_bytes in zip(rows, shared, strict=True)),
        replace(host, budget_bytes=budgets.host_left(used), shared_bytes=sum(shared)),
    )


def _host_overhead(budgets: Budgets, used: Sequence[DeviceBudget]) -> Amount:
    """Sum the RAM of the server itself and of the devices' contexts."""
    parts = (budgets.host_overhead, *(budget.host_overhead for budget in used))
    return replace(
        budgets.host_overhead,
        n_bytes=sum(part.n_bytes for part in parts),
        band_bytes=sum(part.band_bytes for part in parts),
    )


def _device_row(demand: Demand, spread: Spread, index: int, budget: DeviceBudget) -> LedgerRow:
    layers = demand.weights.layers
    n_block = demand.weights.n_block
    share = spread.shares[index]
    parts = part_bytes(demand.weights, spread)
    n_bytes = sum(
        layers[layer].dense_bytes
        + (0 if layer in spread.host_experts else layers[layer].expert_bytes)
        - parts.get(layer, 0)
        for layer in share
    )
    n_bytes += demand.weights.tied_bytes if n_block in share else 0
    n_bytes += demand.weights.overridden_on(budget.device.id).n_bytes
    n_bytes += demand.weights.everywhere_bytes if any(layer < n_block for layer in share) else 0
    role = _role_of(demand, spread, index, budget.device.backend)
    graph = size_graph(demand.architecture, demand.parameters, demand.caches, budget.device.backend)
    return LedgerRow(
        where=budget.device.id,
        name=budget.device.label,
        weights=_exact(n_bytes),
        kv=demand.caches.amount(layer for layer in share if layer < n_block),
        compute=device_compute(graph, role),
        cache=NOTHING,
        overhead=budget.overhead,
        budget_bytes=budget.n_bytes,
        adapters=adapter_amount(demand, first=index == 0),
    )


def _role_of(demand: Demand, spread: Spread, index: int, backend: Backend) -> Role:
    moved = spread.host_experts | {block for block, _ in spread.host_parts}
    copied, copied_kv = copied_to_first(demand, spread.host_layers, moved)
    return Role(
        backend=backend,
        first=index == 0,
        last=index == len(spread.shares) - 1,
        n_devices=len(spread.shares),
        pipeline=spread.pipeline,
        copied_bytes=copied,
        copied_kv_bytes=copied_kv,
    )


def copied_to_first(
    demand: Demand, host_layers: Sequence[int], host_experts: frozenset[int]
) -> tuple[int, int]:
    """Return the largest tensor and the largest cache of the host's blocks; 0 where they are not copied."""
    # The first device copies them, because it computes with the host's weights.
    if not demand.parameters.op_offload:
        return 0, 0
    layers = demand.weights.layers
    fixed = demand.weights.overridden_on(HOST).largest_bytes
    on_host = [max(layers[i].largest_dense_bytes, layers[i].largest_expert_bytes) for i in host_layers]
    on_host += [layers[i].largest_expert_bytes for i in host_experts]
    blocks = demand.caches.blocks
    caches = [blocks[i].attention_bytes for i in host_layers if i < len(blocks)]
    return max(fixed, *on_host, 0), max(caches, default=0)


def host_weights(weights: Weights, spread: Spread) -> int:
    """Sum the weights in host memory: the embedding, blocks on no device, experts kept there."""
    # The output layer is never among the host's layers by itself.
    dense = sum(weights.layers[block].dense_bytes for block in spread.host_layers if block < weights.n_block)
    everything = not spread.shares
    output = weights.layers[-1].n_bytes if everything else 0
    shared = weights.everywhere_bytes if spread.host_layers or everything else 0
    fixed = weights.overridden_on(HOST).n_bytes
    experts = host_experts(weights, spread)
    return weights.input_bytes + dense + experts + output + shared + weights.stuck_bytes + fixed


def host_experts(weights: Weights, spread: Spread) -> int:
    """Sum the routed experts in host memory, except those that overrides or a missing kernel keep there."""
    blocks = spread.host_experts.union(spread.host_layers)
    parts = sum(part_bytes(weights, spread).values())
    return sum(weights.layers[block].expert_bytes for block in blocks) + parts


def with_paged(ledger: Sequence[LedgerRow], n_bytes: int) -> tuple[LedgerRow, ...]:
    """Return the ledger with so many bytes of the host's weights read from the file as they are used."""
    *rows, host = ledger
    weights = replace(host.weights, n_bytes=host.weights.n_bytes - n_bytes)
    return (*rows, replace(host, weights=weights, file_bytes=host.file_bytes + n_bytes))


def _host_row(demand: Demand, spread: Spread, budgets: Budgets, *, cache: Amount) -> LedgerRow:
    backend = Backend.CPU
    if spread.shares:
        backend = budgets.devices[0].device.backend
    graph = size_graph(demand.architecture, demand.parameters, demand.caches, backend)
    compute = host_compute(
        graph,
        pipeline=spread.pipeline,
        computes=not spread.shares,
        holds_weights=bool(
            spread.host_layers
            or spread.host_experts
            or spread.host_parts
            or demand.weights.stuck_bytes
            or demand.weights.overridden_on(HOST).n_tensors
        ),
    )
    weights = host_weights(demand.weights, spread)
    twice = demand.architecture.name in TIED_TWICE or demand.weights.tied_type in budgets.repacked_types
    if not spread.shares and twice:
        # Rows are looked up in the old layout, and multiplied in the new one.
        weights += demand.weights.tied_bytes
    in_layouts = budgets.amx and not spread.shares
    if in_layouts:
        weights += demand.weights.amx_bytes
    n_block = demand.weights.n_block
    return LedgerRow(
        where=HOST,
        name="host",
        # an engine that was built without AMX takes less
        weights=Amount(n_bytes=weights, basis=Basis.ESTIMATED if in_layouts else Basis.EXACT),
        kv=demand.caches.amount(block for block in spread.host_layers if block < n_block),
        compute=compute,
        cache=cache,
        overhead=budgets.host_overhead,
        budget_bytes=budgets.host_bytes,
        file_bytes=demand.weights.file_bytes,
        adapters=NOTHING if spread.shares else adapter_amount(demand, first=True),
    )


def _exact(n_bytes: int) -> Amount:
    return Amount(n_bytes=n_bytes, basis=Basis.EXACT)
