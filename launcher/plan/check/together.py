"""Find which models of a router would be too large together, by the memory that each takes alone. Pure.

Any `most` of them may be loaded at once. Of a set that is too large by its sums, what is loaded later finds
less memory free, and `--fit` may make it smaller: such sets are returned, in the order that is worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from launcher.plan.amounts import HOST
from launcher.plan.check.check import Check
from launcher.plan.check.configuration import Configuration
from launcher.plan.check.fit import declines


class Gives(IntEnum):
    """What a model gives up where less memory is free. Worst is loaded first what gives the most."""

    PLACE = 0  # `--fit` moves it to the host
    CONTEXT = 1  # `--fit` shortens its context only
    NOTHING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one model takes when it is alone: bytes by row of the ledger, and the budgets of the rows."""

    name: str
    used: Mapping[str, int]
    budgets: Mapping[str, int]
    gives: Gives

    @property
    def total(self) -> int:
        return sum(self.used.values())


def share_of(name: str, line: Configuration, verdict: Check) -> Share:
    """Return what a model takes by the verdict on its line."""
    memory = {row.where: row.memory for row in verdict.ledger}
    return Share(
        name=name,
        used={where: used for where, (used, _) in memory.items()},
        budgets={where: budget for where, (_, budget) in memory.items()},
        gives=_gives(line, len(verdict.question.devices)),
    )


def _gives(line: Configuration, n_devices: int) -> Gives:
    if not line.fit:
        return Gives.NOTHING
    if declines(line, n_devices) is None:
        return Gives.PLACE
    return Gives.NOTHING if line.ctx_size is not None else Gives.CONTEXT


def overruns_of(shares: Iterable[Share]) -> dict[str, int]:
    """Return by how many bytes models together exceed each row's budget."""
    used: dict[str, int] = {}
    budgets: dict[str, int] = {}
    for share in shares:
        for where, n_bytes in share.used.items():
            used[where] = used.get(where, 0) + n_bytes
            budgets[where] = min(budgets.get(where, share.budgets[where]), share.budgets[where])
    return {where: n_bytes - budgets[where] for where, n_bytes in used.items() if n_bytes > budgets[where]}


def suspects(shares: Sequence[Share], most: int) -> tuple[tuple[Share, ...], ...]:
    """Return sets of at most `most` models whose sums exceed a budget, each in its worst order.

    For every row and every number of models that give way: those that take the most of the row. If these
    load, so do all.
    """
    found: dict[frozenset[str], tuple[Share, ...]] = {}
    size = min(most, len(shares))
    for where in sorted({where for share in shares for where in share.used}):
        by_size = sorted(shares, key=lambda share: (-share.used.get(where, 0), share.name))
        soft = [share for share in by_size if share.gives is Gives.PLACE]
        hard = [share for share in by_size if share.gives is not Gives.PLACE]
        for n_soft in range(max(0, size - len(hard)), min(size, len(soft)) + 1):
            chosen = (*soft[:n_soft], *hard[: size - n_soft])
            if where in overruns_of(chosen):
                found.setdefault(frozenset(share.name for share in chosen), _worst_order(chosen, where))
    return tuple(found.values())


def _worst_order(chosen: Sequence[Share], where: str) -> tuple[Share, ...]:
    # A device is full when the largest came first; the host, when the largest came last and found no device.
    sign = 1 if where == HOST else -1
    return tuple(sorted(chosen, key=lambda share: (share.gives, sign * share.total, share.name)))
