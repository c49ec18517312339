"""Report the progress of a long job to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a job is: `done` of `total`, in `unit`."""

    phase: str  # build, pull, load
    done: int
    total: int | None  # None while unknown
    unit: str  # bytes, steps, s
    text: str = ""  # what is being worked on
    job: str = ""  # names one of several jobs in the same phase, which may run at once
    file: str = ""  # the file that these numbers are about; empty for the whole job
    is_remark: bool = False  # `text` is a sentence to show, whatever else is shown

    @property
    def document(self) -> dict[str, object]:
        """The step as `--json` writes it, under the names that scripts read."""
        return {
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "text": self.text or self.job,
            "part": self.file,
            "said": self.is_remark,
        }


OnProgress = Callable[[Step], None]


def remark(phase: str, text: str) -> Step:
    """Make a sentence that the user sees once."""
    return Step(phase=phase, done=0, total=None, unit="", text=text, is_remark=True)


def silent(step: Step) -> None:
    """Ignore the progress."""
