"""Bytes with their provenance, and the row of a ledger. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HOST = "host"
RAM = "ram"
"""The host's memory in what users reserve and deployments claim; HOST is its row of a ledger."""

DISK = "disk"
SPEED = "speed"


class Basis(StrEnum):
    EXACT = "exact"
    SIMULATED = "simulated"
    MEASURED = "measured"
    ESTIMATED = "estimated"


# A sum has the least certain basis of its parts.
MOST_CERTAIN_FIRST = (Basis.EXACT, Basis.MEASURED, Basis.SIMULATED, Basis.ESTIMATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Bytes with their basis; an estimate is uncertain by ± `band_bytes`."""

    n_bytes: int
    basis: Basis
    band_bytes: int = 0


NOTHING = Amount(n_bytes=0, basis=Basis.EXACT)


def add_amounts(first: Amount, second: Amount) -> Amount:
    """Return the sum, whose basis is the less certain of the two; an amount of nothing does not count."""
    counted = [amount for amount in (first, second) if amount.n_bytes or amount.band_bytes]
    if len(counted) < 2:
        return counted[0] if counted else first
    return Amount(
        n_bytes=first.n_bytes + second.n_bytes,
        basis=max((first.basis, second.basis), key=MOST_CERTAIN_FIRST.index),
        band_bytes=first.band_bytes + second.band_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """The memory of one device, or of the host, while the model runs."""

    where: str  # a device's id, or HOST
    name: str
    weights: Amount
    kv: Amount
    compute: Amount
    cache: Amount  # llama-server's prompt cache and checkpoints; host only
    overhead: Amount  # what the backend itself takes
    budget_bytes: int
    adapters: Amount = NOTHING  # LoRA; `extra` in JSON documents
    # Of a device in the host's memory: how much of it the device takes. Of the host: how much those devices
    # take, which its budget is without.
    shared_bytes: int = 0
    # Of the host: weights read from the file as they are used, by rows or by experts, which need no memory.
    file_bytes: int = 0

    @property
    def amounts(self) -> tuple[Amount, ...]:
        return (self.weights, self.kv, self.compute, self.cache, self.overhead, self.adapters)

    @property
    def used_bytes(self) -> int:
        """The most this row can take: each amount at the top of its band."""
        return sum(amount.n_bytes + amount.band_bytes for amount in self.amounts)

    @property
    def free_bytes(self) -> int:
        """Negative when the row does not fit."""
        return self.budget_bytes - self.used_bytes

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes used of the memory that the row counts in, and its budget: the host's with its devices."""
        if self.where != HOST:
            return self.used_bytes, self.budget_bytes
        return self.used_bytes + self.shared_bytes, self.budget_bytes + self.shared_bytes
