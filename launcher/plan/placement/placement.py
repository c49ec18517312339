"""Where the layers go: as much on devices as fits, each filled to its own budget.

Order of preference: everything on the fewest devices that hold it; else all dense weights and caches on devices
and as many of the blocks' expert tensors as fit (whole blocks, then a part of one), the rest of the experts on the host; else as many whole layers as
fit, from the last one backwards; else the host alone. Devices keep llama.cpp's order and take layers in order, so a
split is a list of boundaries: found exactly, by dynamic programming over (device, first layer).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, combinations

from launcher.machine.machine import Backend
from launcher.plan.amounts import HOST
from launcher.plan.memory.budget import Budgets, DeviceBudget
from launcher.plan.memory.compute import Role, device_compute, host_compute, size_graph
from launcher.plan.memory.ledger import Demand, adapter_amount, copied_to_first
from launcher.plan.plan import Placement


@dataclass(frozen=True, slots=True)
class _Share:
    """Layers [first, stop) on one device, of how many blocks of which size the experts are there, and what is left
    of its budget then."""

    budget: DeviceBudget
    first: int
    stop: int
    taken: tuple[tuple[int, int], ...]
    left_bytes: int


@dataclass(frozen=True, slots=True)
class _Best:
    """The best way to reach a state: expert tensors on devices (more is better), then the fullest device's
    share of its budget (less is better)."""

    n_expert_tensors: int
    fullest: float
    shares: tuple[_Share, ...]

    def beats(self, other: _Best | None) -> bool:
        return other is None or (self.n_expert_tensors, -self.fullest) > (
            other.n_expert_tensors,
            -other.fullest,
        )


def place(demand: Demand, budgets: Budgets) -> Placement:
    """The placement that puts most on devices; the host is not asked whether it holds the rest."""
    devices = _usable(demand, budgets)
    needed = _needed(demand)
    n_layers = demand.weights.n_block + 1
    if not devices:
        return host_only(demand)
    by_size = sorted(devices, key=lambda budget: (budget.device.id not in needed, -budget.n_bytes))
    for count in range(max(len(needed), 1), len(devices) + 1):
        largest = by_size[:count]
        chosen = [budget for budget in devices if budget in largest]
        best = _split(demand, chosen, start=0, experts_on_host=False)
        if best is not None:
            return _placement(demand, best, n_layers, experts_on_host=False)
    if demand.weights.expert_blocks:
        best = _split(demand, devices, start=0, experts_on_host=True)
        if best is not None:
            return _placement(demand, best, n_layers, experts_on_host=True)
    return _partial(demand, devices)


def host_only(demand: Demand) -> Placement:
    return Placement(
        n_block=demand.weights.n_block,
        n_gpu_layers=0,
        devices=(),
        tensor_split=(),
        host_expert_blocks=demand.weights.expert_blocks,
        overrides=demand.weights.overrides,
    )


def _needed(demand: Demand) -> frozenset[str]:
    """Devices that the user's overrides send tensors to: only one that is in use can hold any."""
    return frozenset(fixed.where for fixed in demand.weights.overridden) - {HOST}


def _usable(demand: Demand, budgets: Budgets) -> list[DeviceBudget]:
    """Devices with memory of their own, as llama.cpp prefers them; else those in the host's memory, each with
    its part of what the host itself does not need."""
    shared = {budget.device.id for budget in budgets.devices if budget.device.shares_host_memory}
    if len(shared) < len(budgets.devices) or not shared:
        return [budget for budget in budgets.devices if budget.device.id not in shared - _needed(demand)]
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
    part = max(budgets.host_bytes - needed, 0) // len(budgets.devices)
    return [
        replace(budget, n_bytes=min(budget.n_bytes, part + budget.device.carve_out_bytes))
        for budget in budgets.devices
    ]


def _partial(demand: Demand, devices: list[DeviceBudget]) -> Placement:
    """As many of the last layers as fit, all experts on the host; found by bisection, because fewer layers need
    less. Devices that are needed get a layer each, whether they have room or not: what is missing then shows."""
    needed = _needed(demand)
    low, high = 1, demand.weights.n_block + 1 - max(len(needed), 1)
    best_start: int | None = None
    while low <= high:
        start = (low + high) // 2
        if _split(demand, devices, start=start, experts_on_host=True) is None:
            low = start + 1
        else:
            best_start, high = start, start - 1
    n_block = demand.weights.n_block
    if best_start is None and needed:
        return _last_layers(demand, [budget.device.id for budget in devices if budget.device.id in needed])
    if best_start is None or (best_start == n_block and not needed):  # the output layer alone is not worth it
        return host_only(demand)
    best = _split(demand, devices, start=best_start, experts_on_host=True)
    if best is None:
        return host_only(demand)
    return _placement(demand, best, n_block + 1 - best_start, experts_on_host=True)


def _last_layers(demand: Demand, devices: list[str]) -> Placement:
    """A layer on each of these devices."""
    return replace(
        host_only(demand),
        n_gpu_layers=len(devices),
        devices=tuple(devices),
        tensor_split=(1,) * len(devices),
    )


def _placement(demand: Demand, best: _Best, n_gpu_layers: int, *, experts_on_host: bool) -> Placement:
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
            # All of it would fit, but for the copies that a pipeline keeps: any part of it on the host prevents it.
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


def _part(demand: Demand, share: _Share, block: int) -> tuple[int, tuple[str, ...]] | None:
    """The block with the kinds of experts that stay on the host, where what the device has left holds others: as
    many as `_Costs.part` counted, the choice that fills it most."""
    kinds = demand.weights.layers[block].expert_kinds
    best: tuple[int, int, frozenset[str]] = (0, 0, frozenset())
    for count in range(1, len(kinds)):
        for chosen in combinations(kinds, count):
            size = sum(n_bytes for _, n_bytes in chosen)
            if size <= share.left_bytes and (count, size) > best[:2]:
                best = count, size, frozenset(kind for kind, _ in chosen)
    return (block, tuple(kind for kind, _ in kinds if kind not in best[2])) if best[2] else None


def _least_part(demand: Demand) -> tuple[int, tuple[str, ...]]:
    """The smallest kind of experts of the last block that has any."""
    block = demand.weights.expert_blocks[-1]
    kind, _ = min(demand.weights.layers[block].expert_kinds, key=lambda sized: sized[1])
    return block, (kind,)


class _Costs:
    """Costs of layers and of devices under one choice of what may stay on the host."""

    def __init__(self, demand: Demand, n_devices: int, start: int, *, experts_on_host: bool) -> None:
        weights = demand.weights
        self.demand = demand
        self.n_devices = n_devices
        self.n_layers = weights.n_block + 1
        self.experts = [layer.expert_bytes if experts_on_host else 0 for layer in weights.layers]
        self.fixed_cache: dict[tuple[Backend, bool, bool], int] = {}
        host_experts = frozenset(weights.expert_blocks) if experts_on_host else frozenset[int]()
        self.copied = copied_to_first(demand, range(start), host_experts)
        self.pipeline = n_devices > 1 and start == 0 and not (experts_on_host or weights.overrides)
        running = [0]
        for index, layer in enumerate(weights.layers):
            cost = layer.dense_bytes if experts_on_host else layer.n_bytes
            if index < weights.n_block:
                cache = demand.caches.amount((index,))
                cost += cache.n_bytes + cache.band_bytes
            else:
                cost += weights.tied_bytes
            running.append(running[-1] + cost)
        self.running = running
        self.parts = [
            list(accumulate(sorted(n_bytes for _, n_bytes in layer.expert_kinds)[:-1]))
            for layer in weights.layers
        ]

    def n_tensors(self, layer: int) -> int:
        """Tensors that hold a block's experts: `up`, `down` and `gate`, say."""
        return len(self.demand.weights.layers[layer].expert_kinds)

    def part(self, layer: int, free: int) -> int:
        """How many of them go into `free` bytes, the small ones first and never all."""
        return bisect_right(self.parts[layer], free)

    def dense(self, first: int, stop: int) -> int:
        """Bytes of the layers [first, stop) without experts that may leave."""
        return self.running[stop] - self.running[first]

    def fixed(self, budget: DeviceBudget, *, first: bool, last: bool) -> int:
        """What a device takes whatever its layers: compute at the top of its band, and the backend."""
        backend = budget.device.backend
        key = (backend, first, last)
        if key not in self.fixed_cache:
            demand = self.demand
            role = Role(
                backend=backend,
                first=first,
                last=last,
                n_devices=self.n_devices,
                pipeline=self.pipeline,
                copied_bytes=self.copied[0],
                copied_kv_bytes=self.copied[1],
            )
            graph = size_graph(demand.architecture, demand.parameters, demand.caches, backend)
            compute = device_compute(graph, role)
            extra = adapter_amount(demand, first=first)
            self.fixed_cache[key] = (
                compute.n_bytes
                + compute.band_bytes
                + demand.weights.everywhere_bytes
                + extra.n_bytes
                + extra.band_bytes
            )
        overhead = budget.overhead.n_bytes + budget.overhead.band_bytes
        return self.fixed_cache[key] + overhead + self.demand.weights.overridden_on(budget.device.id).n_bytes


def _split(demand: Demand, devices: list[DeviceBudget], *, start: int, experts_on_host: bool) -> _Best | None:
    """The best division of the layers from `start` on among the devices, None if there is none."""
    costs = _Costs(demand, len(devices), start, experts_on_host=experts_on_host)
    n_layers = costs.n_layers
    needed = _needed(demand)
    reached: dict[tuple[int, bool], _Best] = {(start, False): _Best(0, 0.0, ())}
    for budget in devices:
        following = {} if budget.device.id in needed else dict(reached)
        for (first, used), best in reached.items():
            for stop, candidate in _extensions(costs, budget, best, first, used=used):
                if candidate.beats(following.get((stop, True))):
                    following[stop, True] = candidate
        reached = following
    return reached.get((n_layers, True))


def _extensions(
    costs: _Costs, budget: DeviceBudget, best: _Best, first: int, *, used: bool
) -> list[tuple[int, _Best]]:
    """Every number of layers this device can take from `first` on, with as many experts as fit."""
    found = []
    blocks: dict[int, list[int]] = {}
    for stop in range(first + 1, costs.n_layers + 1):
        size = costs.experts[stop - 1]
        if size:
            blocks.setdefault(size, []).append(stop - 1)
        fixed = costs.fixed(budget, first=not used, last=stop == costs.n_layers)
        free = budget.n_bytes - fixed - costs.dense(first, stop)
        if free < 0:
            break
        taken, left_bytes = _fit(free, blocks)
        n_tensors = sum(count * costs.n_tensors(blocks[size][0]) for size, count in taken)
        left = [blocks[size][count] for size, count in taken if count < len(blocks[size])]
        if left:
            n_tensors += costs.part(min(left), left_bytes)
        share = 1 - left_bytes / budget.n_bytes if budget.n_bytes else 1.0
        candidate = _Best(
            best.n_expert_tensors + n_tensors,
            max(best.fullest, share),
            (*best.shares, _Share(budget, first, stop, taken, left_bytes)),
        )
        found.append((stop, candidate))
    return found


def _fit(free: int, blocks: dict[int, list[int]]) -> tuple[tuple[tuple[int, int], ...], int]:
    """How many blocks of each size fit into `free` bytes, the small ones first: that is the most blocks; and what is
    left of it."""
    taken = []
    for size in sorted(blocks):
        count = min(len(blocks[size]), free // size)
        taken.append((size, count))
        free -= count * size
    return tuple(taken), free


def _left_out(demand: Demand, share: _Share) -> list[int]:
    """The blocks whose experts stay on the host: of each size, the last ones of the device's share."""
    left = dict(share.taken)
    out = []
    for block in range(share.first, share.stop):
        size = demand.weights.layers[block].expert_bytes
        if size and left.get(size, 0):
            left[size] -= 1
        elif size:
            out.append(block)
    return out
