"""How far a long job is: one value from whoever works to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`phase` is a word (`build`, `pull`, `load`), `done` of `total` in `unit` ("bytes", "steps", "s");
    `total` is None while unknown. `text` names what is being worked on."""

    phase: str
    done: int
    total: int | None
    unit: str
    text: str = ""
    part: str = ""


OnProgress = Callable[[Step], None]


def silent(step: Step) -> None:
    """Watch nothing."""
