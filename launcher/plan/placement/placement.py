"""Place as much of a model on devices as fits, each filled to its own budget. Pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from launcher.plan.amounts import HOST
from launcher.plan.memory.budget import Budgets, DeviceBudget
from launcher.plan.memory.compute import host_compute, size_graph
from launcher.plan.memory.ledger import Demand
from launcher.plan.placement.division import DeviceShare, Division, divide_layers
from launcher.plan.plan import Placement


def place(demand: Demand, budgets: Budgets) -> Placement:
    """Return the placement that puts most on devices, whether or not the host has memory for the rest."""
    devices = _usable(demand, budgets)
    needed = demand.weights.overridden_devices
    n_layers = demand.weights.n_block + 1
    if not devices:
        return _host_only(demand)
    # Best is everything on the fewest devices that hold it. Devices keep llama.cpp's order and take layers
    # in order.
    by_size = sorted(devices, key=lambda budget: (budget.device.id not in needed, -_usable_bytes(budget)))
    for count in range(max(len(needed), 1), len(devices) + 1):
        largest = by_size[:count]
        chosen = [budget for budget in devices if budget in largest]
        best = divide_layers(demand, chosen, start=0, experts_on_host=False)
        if best is not None:
            return _placement(demand, best, n_layers, experts_on_host=False)
    # Next best is all dense weights and caches on devices, with as many expert tensors as fit: whole
    # blocks, then a part of one.
    if demand.weights.expert_blocks:
        best = _divide(demand, devices, start=0)
        if best is not None:
            return _placement(demand, best, n_layers, experts_on_host=True)
    return _partial(demand, devices)


def _divide(demand: Demand, devices: list[DeviceBudget], *, start: int) -> Division | None:
    """Divide the layers from `start` on, with experts on the host, among all devices or onto one alone."""
    # The first of several devices copies two of the host's tensors at a time, a single one only one
    # (`device_compute`): a small second device can cost more than it holds. Nothing else depends on the
    # number of devices, and `divide_layers` passes over those that do not help. No other subset is better.
    best = divide_layers(demand, devices, start=start, experts_on_host=True)
    for budget in devices if len(devices) > 1 else ():
        if demand.weights.overridden_devices <= {budget.device.id}:
            alone = divide_layers(demand, [budget], start=start, experts_on_host=True)
            if alone is not None and (best is None or alone.n_expert_tensors > best.n_expert_tensors):
                best = alone
    return best


def _usable_bytes(budget: DeviceBudget) -> int:
    return budget.n_bytes - budget.overhead.n_bytes - budget.overhead.band_bytes


def _host_only(demand: Demand) -> Placement:
    return Placement(
        n_block=demand.weights.n_block,
        n_gpu_layers=0,
        devices=(),
        tensor_split=(),
        host_expert_blocks=demand.weights.expert_blocks,
        overrides=demand.weights.overrides,
    )


def _usable(demand: Demand, budgets: Budgets) -> list[DeviceBudget]:
    """Return devices with their own memory, as llama.cpp prefers; else those that have the host's."""
    shared = {budget.device.id for budget in budgets.devices if budget.device.shares_host_memory}
    if len(shared) < len(budgets.devices) or not shared:
        return [
            budget
            for budget in budgets.devices
            if budget.device.id not in shared - demand.weights.overridden_devices
        ]
    # Each gets an equal part of the memory that the host does not need for itself.
    graph = size_graph(
        demand.architecture, demand.parameters, demand.caches, budgets.devices[0].device.backend
    )
    compute = host_compute(graph, pipeline=False, computes=False, holds_weights=True)
    overhead = budgets.host_overhead
    needed = (
        demand.weights.input_bytes
        + demand.weights.overridden_on(HOST).n_bytes
        + sum(amount.n_bytes + amount.band_bytes for amount in (compute, overhead))
    )
    parts = {
        in_ram: None if pool is None else max(pool - needed, 0) // len(budgets.devices)
        for in_ram, pool in ((True, budgets.host_bytes), (False, budgets.pool_bytes))
    }
    return [
        budget
        if (part := parts[budget.in_ram]) is None
        else replace(budget, n_bytes=min(budget.n_bytes, part + budget.device.carve_out_bytes))
        for budget in budgets.devices
    ]


def _partial(demand: Demand, devices: list[DeviceBudget]) -> Placement:
    """Place as many of the last layers as fit, with all experts on the host."""
    # Devices that overrides name get a layer each, even if it does not fit: the ledger then shows what is
    # missing.
    needed = demand.weights.overridden_devices
    low, high = 1, demand.weights.n_block + 1 - max(len(needed), 1)
    best_start: int | None = None
    # By bisection, because fewer layers need less.
    while low <= high:
        start = (low + high) // 2
        if _divide(demand, devices, start=start) is None:
            low = start + 1
        else:
            best_start, high = start, start - 1
    n_block = demand.weights.n_block
    if best_start is None and needed:
        return _last_layers(demand, [budget.device.id for budget in devices if budget.device.id in needed])
    if best_start is None or (best_start == n_block and not needed):  # the output layer alone is not worth it
        return _host_only(demand)
    best = _divide(demand, devices, start=best_start)
    if best is None:
        return _host_only(demand)
    return _placement(demand, best, n_block + 1 - best_start, experts_on_host=True)


def _last_layers(demand: Demand, devices: list[str]) -> Placement:
    return replace(
        _host_only(demand),
        n_gpu_layers=len(devices),
        devices=tuple(devices),
        tensor_split=(1,) * len(devices),
    )


def _placement(demand: Demand, best: Division, n_gpu_layers: int, *, experts_on_host: bool) -> Placement:
    n_block = demand.weights.n_block
    start = n_block + 1 - n_gpu_layers
    host = {block for block in demand.weights.expert_blocks if block < start}
    parts: list[tuple[int, tuple[str, ...]]] = []
    if experts_on_host:
        for share in best.shares:
            left = _left_out(demand, share)
            part = _part(demand, share, left[0]) if left else None
            if part is not None:
                parts.append(part)
                left = left[1:]
            host.update(left)
        if not (host or parts) and demand.weights.expert_blocks:
            # All of it would fit, but for the copies that a pipeline keeps: any part of it on the host
            # prevents it.
            parts.append(_least_part(demand))
    return Placement(
        n_block=n_block,
        n_gpu_layers=n_gpu_layers,
        devices=tuple(share.budget.device.id for share in best.shares),
        tensor_split=tuple(share.stop - share.first for share in best.shares),
        host_expert_blocks=tuple(sorted(host)),
        host_expert_parts=tuple(parts),
        overrides=demand.weights.overrides,
    )


def _part(demand: Demand, share: DeviceShare, block: int) -> tuple[int, tuple[str, ...]] | None:
    """Choose the kinds of a block's experts that stay on the host, None if no kind fits on the device."""
    # As many kinds go to the device as the division counted; of those choices, the one that fills it most.
    kinds = demand.weights.layers[block].expert_kinds
    best: tuple[int, int, frozenset[str]] = (0, 0, frozenset())
    for count in range(1, len(kinds)):
        for chosen in combinations(kinds, count):
            size = sum(n_bytes for _, n_bytes in chosen)
            if size <= share.left_bytes and (count, size) > best[:2]:
                best = count, size, frozenset(kind for kind, _ in chosen)
    return (block, tuple(kind for kind, _ in kinds if kind not in best[2])) if best[2] else None


def _least_part(demand: Demand) -> tuple[int, tuple[str, ...]]:
    block = demand.weights.expert_blocks[-1]
    kind, _ = min(demand.weights.layers[block].expert_kinds, key=lambda sized: sized[1])
    return block, (kind,)


def _left_out(demand: Demand, share: DeviceShare) -> list[int]:
    """Return the blocks whose experts stay on the host: of each size, the last ones of the share."""
    left = dict(share.expert_counts)
    out = []
    for block in range(share.first, share.stop):
        size = demand.weights.layers[block].expert_bytes
        if size and left.get(size, 0):
            left[size] -= 1
        elif size:
            out.append(block)
    return out
