"""What came of a search, as values: the plan, what else there is, what everything costs."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.plan import Plan, Shortfall


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One way to run the model that was planned. `flags` ask for it. `reason` is why it was not taken, empty for the
    chosen one; `where` and `missing_bytes` are set where it does not fit, the speeds where it does."""

    quant: str
    size_bytes: int
    cache_type: str
    ubatch_size: int
    ctx_size: int
    fits: bool
    reason: str
    flags: str
    where: str | None = None
    missing_bytes: int | None = None
    decode_tps: float | None = None
    turn_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change to the chosen plan and what it costs or brings: a sentence with its numbers."""

    flags: str
    fits: bool
    text: str
    decode_tps: float | None
    turn_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`plan` or else `shortfall`, of the quant that lacks least. `losers` are the other quants, each with its reason;
    `options` the plans that no other beats in both quality and turn time; `prices` changes to the plan."""

    plan: Plan | None
    shortfall: Shortfall | None
    rejected: tuple[Alternative, ...]
    options: tuple[Alternative, ...] = ()
    changes: tuple[Change, ...] = ()
    n_simulations: int = 0
