"""Bytes with their provenance, and the row of a ledger. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HOST = "host"
RAM = "ram"
"""The host's memory in what users reserve and deployments claim; HOST is its row of a ledger."""

DISK = "disk"
SPEED = "speed"


class Basis(StrEnum):
    """Where a number comes from."""

    EXACT = "exact"
    SIMULATED = "simulated"
    MEASURED = "measured"
    ESTIMATED = "estimated"


MOST_CERTAIN_FIRST = (Basis.EXACT, Basis.MEASURED, Basis.SIMULATED, Basis.ESTIMATED)
"""A whole is as sure as its least sure part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Bytes with their provenance; an estimate carries its band (± `band_bytes`)."""

    n_bytes: int
    basis: Basis
    band_bytes: int = 0


NOTHING = Amount(n_bytes=0, basis=Basis.EXACT)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one device, or the host, holds once the model runs.

    `where` is a device id or HOST. `cache` is llama-server's prompt cache and checkpoints (host only);
    `overhead` is what the backend itself takes, `extra` further files (projector, draft model, adapters). The
    band of every estimate is counted as used.
    """

    where: str
    name: str
    weights: Amount
    kv: Amount
    compute: Amount
    cache: Amount
    overhead: Amount
    budget_bytes: int
    adapters: Amount = NOTHING

    @property
    def amounts(self) -> tuple[Amount, ...]:
        return (self.weights, self.kv, self.compute, self.cache, self.overhead, self.adapters)

    @property
    def used_bytes(self) -> int:
        """The most this row can take: every amount at the upper end of its band."""
        return sum(amount.n_bytes + amount.band_bytes for amount in self.amounts)

    @property
    def free_bytes(self) -> int:
        """Budget left over; negative is what is missing."""
        return self.budget_bytes - self.used_bytes
