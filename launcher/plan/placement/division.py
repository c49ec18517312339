"""Divide layers among devices: exactly, by dynamic programming over (device, first layer). Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from launcher.machine.machine import Backend
from launcher.plan.memory.budget import DeviceBudget
from launcher.plan.memory.compute import Role, device_compute, size_graph
from launcher.plan.memory.ledger import Demand, adapter_amount, copied_to_first


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """The layers [first, stop) on one device."""

    budget: DeviceBudget
    first: int
    stop: int
    expert_counts: tuple[
        tuple[int, int], ...
    ]  # (bytes of a block's experts, number of such blocks on the device)
    left_bytes: int  # of the device's budget


@dataclass(frozen=True, slots=True)
class Division:
    n_expert_tensors: int  # on devices
    fullest: float  # the largest part of its budget that a device uses
    shares: tuple[DeviceShare, ...]

    def beats(self, other: Division | None) -> bool:
        """Return whether this has more experts on devices, or as many and the budgets used more evenly."""
        return other is None or (self.n_expert_tensors, -self.fullest) > (
            other.n_expert_tensors,
            -other.fullest,
        )


class _Costs:
    """Bytes of layers and of devices, with experts that may stay on the host or not."""

    def __init__(self, demand: Demand, n_devices: int, start: int, *, experts_on_host: bool) -> None:
        weights = demand.weights
        self.demand = demand
        self.n_devices = n_devices
        self.n_layers = weights.n_block + 1
        self.experts = [layer.expert_bytes if experts_on_host else 0 for layer in weights.layers]
        self._constants: dict[tuple[Backend, bool, bool], int] = {}
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
        """Count the tensors with a block's experts: `up`, `down` and `gate`, say."""
        return len(self.demand.weights.layers[layer].expert_kinds)

    def n_tensors_within(self, layer: int, free: int) -> int:
        """Count the expert tensors of a block that go into `free` bytes, small ones first and never all."""
        return bisect_right(self.parts[layer], free)

    def layer_bytes(self, first: int, stop: int) -> int:
        """Sum the layers [first, stop) without experts that may stay on the host."""
        return self.running[stop] - self.running[first]

    def constant_bytes(self, budget: DeviceBudget, *, first: bool, last: bool) -> int:
        """Sum what a device takes whatever its layers: compute at the top of its band, and the backend."""
        backend = budget.device.backend
        key = (backend, first, last)
        if key not in self._constants:
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
            adapters = adapter_amount(demand, first=first)
            self._constants[key] = (
                compute.n_bytes
                + compute.band_bytes
                + demand.weights.everywhere_bytes
                + adapters.n_bytes
                + adapters.band_bytes
            )
        overhead = budget.overhead.n_bytes + budget.overhead.band_bytes
        return self._constants[key] + overhead + self.demand.weights.overridden_on(budget.device.id).n_bytes


def divide_layers(
    demand: Demand, devices: list[DeviceBudget], *, start: int, experts_on_host: bool
) -> Division | None:
    """Divide the layers from `start` on among the devices in the best way, None if they do not fit."""
    costs = _Costs(demand, len(devices), start, experts_on_host=experts_on_host)
    n_layers = costs.n_layers
    needed = demand.weights.overridden_devices
    # The best way to place the layers before the first number, by whether a device is in use already.
    reached: dict[tuple[int, bool], Division] = {(start, False): Division(0, 0.0, ())}
    for budget in devices:
        following = {} if budget.device.id in needed else dict(reached)
        for (first, used), best in reached.items():
            for stop, candidate in _extensions(costs, budget, best, first, used=used):
                if candidate.beats(following.get((stop, True))):
                    following[stop, True] = candidate
        reached = following
    return reached.get((n_layers, True))


def _extensions(
    costs: _Costs, budget: DeviceBudget, best: Division, first: int, *, used: bool
) -> list[tuple[int, Division]]:
    """Extend a division by each number of layers this device can take, with as many experts as fit."""
    extended = []
    blocks: dict[int, list[int]] = {}
    constants = [costs.constant_bytes(budget, first=not used, last=last) for last in (False, True)]
    for stop in range(first + 1, costs.n_layers + 1):
        size = costs.experts[stop - 1]
        if size:
            blocks.setdefault(size, []).append(stop - 1)
        constant = constants[stop == costs.n_layers]
        free = budget.n_bytes - constant - costs.layer_bytes(first, stop)
        if free < 0:
            break
        counts, left_bytes = _fit(free, blocks)
        n_tensors = sum(count * costs.n_tensors(blocks[size][0]) for size, count in counts)
        left = [blocks[size][count] for size, count in counts if count < len(blocks[size])]
        if left:
            n_tensors += costs.n_tensors_within(min(left), left_bytes)
        share = 1 - left_bytes / budget.n_bytes if budget.n_bytes else 1.0
        candidate = Division(
            best.n_expert_tensors + n_tensors,
            max(best.fullest, share),
            (*best.shares, DeviceShare(budget, first, stop, counts, left_bytes)),
        )
        extended.append((stop, candidate))
    return extended


def _fit(free: int, blocks: dict[int, list[int]]) -> tuple[tuple[tuple[int, int], ...], int]:
    """Return how many blocks of each size fit into `free` bytes, and the bytes that are left."""
    counts = []
    # The small ones first: those are the most blocks.
    for size in sorted(blocks):
        count = min(len(blocks[size]), free // size)
        counts.append((size, count))
        free -= count * size
    return tuple(counts), free
