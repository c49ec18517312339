"""Hold what one companion takes, place by place. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from launcher.errors import EngineFailed
from launcher.gguf.model import ModelFile
from launcher.plan.amounts import NOTHING, Amount, Basis, LedgerRow, add_amounts
from launcher.plan.oracle import BufferRow, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionRow:
    where: str
    weights: Amount = NOTHING
    kv: Amount = NOTHING
    compute: Amount = NOTHING

    @property
    def used_bytes(self) -> int:
        return sum(amount.n_bytes + amount.band_bytes for amount in (self.weights, self.kv, self.compute))


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedCompanion:
    """The rows of one companion, and how they are known."""

    rows: tuple[CompanionRow, ...]
    how: str
    refusal: Refusal | None = None


def raise_if_refused(refusal: Refusal, model: ModelFile) -> None:
    if refusal.model_refused:
        raise EngineFailed(
            f"llama.cpp would not load {model.source}: {refusal.reason}",
            hint="launcher engine info shows the engine; leave the file out, or choose another",
        )


def simulated_rows(rows: Iterable[BufferRow]) -> tuple[CompanionRow, ...]:
    return by_place(
        CompanionRow(
            where=row.where,
            weights=_amount(row.weights_bytes),
            kv=_amount(row.kv_bytes + row.recurrent_bytes),
            compute=_amount(row.compute_bytes + row.output_bytes),
        )
        for row in rows
    )


def _amount(n_bytes: int) -> Amount:
    return Amount(n_bytes=n_bytes, basis=Basis.SIMULATED)


def by_place(rows: Iterable[CompanionRow]) -> tuple[CompanionRow, ...]:
    sums: dict[str, CompanionRow] = {}
    for row in rows:
        before = sums.get(row.where, CompanionRow(where=row.where))
        sums[row.where] = CompanionRow(
            where=row.where,
            weights=add_amounts(before.weights, row.weights),
            kv=add_amounts(before.kv, row.kv),
            compute=add_amounts(before.compute, row.compute),
        )
    return tuple(row for row in sums.values() if row.used_bytes)


def ledger_rows(ledger: Iterable[LedgerRow]) -> tuple[CompanionRow, ...]:
    return by_place(
        CompanionRow(where=row.where, weights=row.weights, kv=row.kv, compute=row.compute) for row in ledger
    )
