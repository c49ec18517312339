"""What `tune` returns: the outcome, and every trial that led to it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from launcher.plan.tuning.tuned import Tuned, tuned_json
from launcher.plan.tuning.tuner import PLAN, Outcome, State, Trial, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    tuned: Tuned
    state: State
    outcome: Outcome

    @property
    def ranked(self) -> list[tuple[Trial, float]]:
        """The trials that were measured to the end of their stage, with their speed over the plan's."""
        rates = self.state.seen
        plan = statistics.median(rates[PLAN]) if rates.get(PLAN) else 0.0
        ratios = [(trial, statistics.median(each) / plan) for trial, each in rates.items() if plan]
        return sorted(ratios, key=lambda row: -row[1])


def tuning_document(report: Report) -> dict[str, Any]:
    """Return what was found as versioned JSON."""
    return {
        **tuned_json(report.tuned),
        "words": list(report.tuned.words),
        "why": report.outcome.why,
        "spent_s": round(report.state.spent_s, 1),
        "trials": [{"words": list(words_of(trial)), "ratio": ratio} for trial, ratio in report.ranked],
        "refused": [{"words": list(words_of(each.trial)), "why": each.why} for each in report.state.refused],
    }
