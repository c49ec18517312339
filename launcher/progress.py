"""How far a long job is: one value from whoever works to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`phase` is a word (`build`, `pull`, `load`), `done` of `total` in `unit` ("bytes", "steps", "s");
    `total` is None while unknown. `text` names what is being worked on. `said` is a sentence of its own, shown
    whatever is shown of the progress."""

    phase: str
    done: int
    total: int | None
    unit: str
    text: str = ""
    part: str = ""
    is_remark: bool = False


OnProgress = Callable[[Step], None]


def remark(phase: str, text: str) -> Step:
    """A sentence that the user should see, once."""
    return Step(phase=phase, done=0, total=None, unit="", text=text, is_remark=True)


def silent(step: Step) -> None:
    """Watch nothing."""
