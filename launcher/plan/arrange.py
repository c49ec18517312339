"""One attempt: parameters and a machine in, a placement with its whole ledger out, fitting or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from launcher.gguf.architecture import Architecture
from launcher.machine import Machine
from launcher.model import ModelFile
from launcher.plan.budget import Budgets
from launcher.plan.host_memory import HostCaches, plan_caches
from launcher.plan.ledger import Demand, build_ledger, demand_of
from launcher.plan.placement import place
from launcher.plan.plan import HOST, LedgerRow, Placement, Workload
from launcher.plan.settle import Settled
from launcher.plan.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model on one machine, read once for all attempts."""

    model: ModelFile
    quant: str
    machine: Machine
    architecture: Architecture
    weights: Weights
    budgets: Budgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """`ledger` includes the prompt cache; `streams` when weights exceed RAM and that was allowed."""

    settled: Settled
    demand: Demand
    placement: Placement
    ledger: tuple[LedgerRow, ...]
    caches: HostCaches
    streams: bool

    @property
    def fits(self) -> bool:
        return all(row.free_bytes >= 0 for row in self.ledger)


def arrange(
    case: Case, settled: Settled, workload: Workload, surplus: Mapping[str, int] | None = None
) -> Arrangement:
    """Place the model as well as it goes, then give the host's rest to its caches.

    `surplus` says, where a simulation has shown it, by how much our own figures for a row are too high (or,
    negative, too low); placement and caches then reckon with that.
    """
    surplus = surplus or {}
    demand = demand_of(case.architecture, case.weights, settled.parameters, workload.extras)
    placement = place(demand, _corrected(case.budgets, surplus))
    bare = build_ledger(demand, placement, case.budgets)
    host = bare[-1]
    streams = workload.stream_weights and 0 < -host.free_bytes < host.weights.n_bytes
    if streams:  # what does not fit is read again whenever it is needed: it takes no memory
        resident = replace(host.weights, n_bytes=host.weights.n_bytes + host.free_bytes)
        host = replace(host, weights=resident)
    caches = plan_caches(demand, workload, host.free_bytes + surplus.get(HOST, 0))
    return Arrangement(
        settled=settled,
        demand=demand,
        placement=placement,
        ledger=(*bare[:-1], replace(host, cache=caches.amount)),
        caches=caches,
        streams=streams,
    )


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
