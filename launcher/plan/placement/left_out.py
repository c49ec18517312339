"""Leave out devices whose use takes more of a short RAM than it relieves. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from launcher.plan.amounts import HOST, Amount, LedgerRow
from launcher.plan.memory.budget import Budgets, DeviceBudget


def smaller_budgets(budgets: Budgets, needed: frozenset[str]) -> Iterator[Budgets]:
    """Yield the budgets without the least device, then without the next as well, down to the `needed`."""
    # the least device can relieve the host of the fewest bytes
    # Not every subset is tried, because there are 2^n. A context takes the same RAM on every device of a
    # backend, so of all sets with as many devices the largest ones leave the host least.
    devices = budgets.devices
    best_first = sorted(devices, key=lambda budget: _worth(budget, needed), reverse=True)
    for count in range(len(devices) - 1, len(needed) - 1, -1):
        kept = best_first[:count]
        yield replace(budgets, devices=tuple(budget for budget in devices if budget in kept))


def most_freed(ledger: Sequence[LedgerRow], budgets: Budgets) -> int:
    """Return the most RAM that can become free when devices of this ledger are left out."""
    rows = {row.where: row for row in ledger}
    # The host's buffer is smaller without a pipeline's copies, and has no band for tensors without a kernel.
    freed = _top(rows[HOST].compute)
    for budget in budgets.devices:
        row = rows.get(budget.device.id)
        if row is not None:
            freed += _top(budget.host_overhead)
            freed += _top(row.overhead) + _top(row.compute) if budget.in_ram else 0
    return freed


def _worth(budget: DeviceBudget, needed: frozenset[str]) -> tuple[bool, bool, int]:
    device = budget.device
    relief = budget.n_bytes - _top(budget.overhead) - _top(budget.host_overhead)
    # A device in the host's memory relieves it of nothing.
    return device.id in needed, not device.shares_host_memory, relief


def _top(amount: Amount) -> int:
    return amount.n_bytes + amount.band_bytes
