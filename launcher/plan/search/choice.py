"""Hold the result of a search: the plan, the alternatives, and changes to the plan."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.plan.forecast.decode import Stage
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
class Speculation:
    """What drafts by the model's own MTP blocks take and bring."""

    flags: str  # llama-server's, that ask for it
    used: bool  # the plan drafts so
    fits: bool  # at the plan's context
    pays: bool
    n_draft: int  # tokens drafted at once
    acceptance: float  # the part of drafts that is taken to be right
    memory_bytes: int  # that it takes, in all places
    ctx_tokens: int  # of context that the same memory would hold
    decode_tps: float | None  # with it
    plain_tps: float  # without it
    text: str  # a sentence with the numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A plan, or else the shortfall of the quant that lacks least."""

    plan: Plan | None
    shortfall: Shortfall | None
    rejected: tuple[Alternative, ...]  # the other quants
    options: tuple[Alternative, ...] = ()  # the plans that no other beats in both quality and turn time
    changes: tuple[Change, ...] = ()
    speculation: Speculation | None = None  # of a model with MTP blocks
    n_simulations: int = 0
    stages: tuple[Stage, ...] = ()  # of the plan, for speeds at other depths
