"""What tuning found: the winner, and what was tried."""

from __future__ import annotations

import shlex

from rich.console import RenderableType

from launcher.cli.show.tables import facts, grid, line
from launcher.commands.tune.report import Report
from launcher.plan.tuning.pairs import PAIRS, SURE
from launcher.plan.tuning.tuner import PLAN, words_of


def render_tuning(report: Report) -> tuple[RenderableType, ...]:
    tuned, outcome = report.tuned, report.outcome
    subject = tuned.subject
    winner = shlex.join(tuned.words) or "the plan as it is"
    if tuned.words:
        winner += f", {outcome.ratio:.2f} times as fast"
    head = facts(
        [
            ("model", f"{subject.model_id}  {subject.quant}"),
            ("engine", f"llama.cpp {subject.engine}"),
            ("workload", tuned.workload),
            ("best", winner),
            ("why", outcome.why),
        ]
    )
    rows = [
        ("the plan" if trial == PLAN else shlex.join(words_of(trial)), f"{ratio:.2f}")
        for trial, ratio in report.ranked
    ]
    rows += [(shlex.join(words_of(each.trial)), each.why) for each in report.state.refused]
    note = line(
        f"tried in {report.state.spent_s:.0f} s; a ratio here is a hint; the winner is one by {PAIRS} "
        f"pairs in turns that agree, and whose rank test gives chance {SURE:.0%} at most"
    )
    after = line(
        "the next plans of this model use it: launcher plan shows it, --untuned leaves it out"
        if tuned.words
        else "plans stay as they are"
    )
    return (head, grid(("tried", "x the plan"), rows), note, after)
