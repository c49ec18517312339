"""Hold the result of a search: the plan, the alternatives, and changes to the plan."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.plan import Plan, Shortfall


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A way to run the model, and why it was not taken."""

    quant: str
    size_bytes: int
    cache_type: str
    ubatch_size: int
    ctx_size: int
    fits: bool
    reason: str  # empty in `Choice.options`
    flags: str  # ask for it
    # Set if it does not fit:
    where: str | None = None
    missing_bytes: int | None = None
    # Set if it fits:
    decode_tps: float | None = None
    turn_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    flags: str
    fits: bool
    text: str  # a sentence with the numbers
    decode_tps: float | None
    turn_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A plan, or else the shortfall of the quant that lacks least."""

    plan: Plan | None
    shortfall: Shortfall | None
    rejected: tuple[Alternative, ...]  # the other quants
    options: tuple[Alternative, ...] = ()  # the plans that no other beats in both quality and turn time
    changes: tuple[Change, ...] = ()
    n_simulations: int = 0
