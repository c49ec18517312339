"""Tune: state x event -> state and what to try next. Pure.

The plan's own settings are measured first, then each other setting alone. The better half of those that beat
the plan goes on, measured twice as often each time, until few are left. The best of each knob are then put
together, and the best of all meets the plan in turns, on prompts that nothing was chosen by. It wins only if
it is faster beyond the noise (pairs.py); else the plan stays.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from launcher.plan.tuning.pairs import PAIRS, judge_pairs
from launcher.plan.tuning.settings import Setting

_FEW = 3  # settings that are not halved any further
_MOST_TIMES_SLOWER = 4.0  # a trial that takes longer than so many of the plan's is ended,
_LEAST_LIMIT_S = 30.0  # but not before this: one stall of a busy machine says nothing

Trial = tuple[Setting, ...]
"""Settings in the place of the plan's; none: the plan itself."""

PLAN: Trial = ()


def words_of(trial: Trial) -> tuple[str, ...]:
    """Return llama-server's words for a trial."""
    return tuple(word for setting in trial for word in setting.words)


class Stage(StrEnum):
    PLAN = "the plan itself"
    ALONE = "each setting alone"
    HALVING = "the better half"
    TOGETHER = "the best of each knob together"
    PAIRS = "the best against the plan, in turns"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A trial's workloads per second, and how long it took with all that belongs to it."""

    trial: Trial
    rates: tuple[float, ...]
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A trial that does not fit, does not start, or was too slow to end."""

    trial: Trial
    why: str
    took_s: float


Event = Measured | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Measure this next; `held_out`: with the prompts that decide, and no others do."""

    trial: Trial
    times: int
    limit_s: float | None  # end it then; None for the plan itself
    held_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end: the winner, or the plan; and the sentence that says why."""

    winner: Trial
    ratio: float  # of the best's speed to the plan's, the median of the last comparison's pairs
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    budget_s: float
    stage: Stage = Stage.PLAN
    spent_s: float = 0.0
    waiting: tuple[Trial, ...] = ()  # to be tried in this stage
    times: int = 1  # each of them
    rates: dict[Trial, tuple[float, ...]] = field(default_factory=dict)
    seen: dict[Trial, tuple[float, ...]] = field(default_factory=dict)  # all of them, to be shown
    refused: tuple[Refused, ...] = ()
    cost_s: float = 0.0  # the longest that one measurement of the plan took
    champion: Trial = PLAN
    pairs: dict[Trial, tuple[float, ...]] = field(default_factory=dict)  # of the last comparison
    outcome: Outcome | None = None
    stopped: str | None = None  # why the plan itself could not be measured

    @property
    def best(self) -> tuple[Trial, float]:
        """The quickest so far, and its speed over the plan's; a hint only."""
        plan = self.rates.get(PLAN)
        if not plan:
            return PLAN, 1.0
        trial = max(self.rates, key=lambda each: statistics.median(self.rates[each]))
        return trial, statistics.median(self.rates[trial]) / statistics.median(plan)


def begin(settings: Sequence[Setting], budget_s: float) -> tuple[State, Try]:
    state = State(budget_s=budget_s, waiting=tuple((setting,) for setting in settings))
    return state, Try(trial=PLAN, times=2, limit_s=None)


def step(state: State, event: Event) -> tuple[State, Try | Outcome]:
    """Take in what happened, and say what is tried next, or how it ended."""
    state = _taken_in(state, event)
    while True:
        if state.outcome is not None:
            return state, state.outcome
        following = _next_try(state)
        if following is not None:
            return replace(state, waiting=state.waiting[1:]), following
        state = _next_stage(state)


def _taken_in(state: State, event: Event) -> State:
    state = replace(state, spent_s=state.spent_s + event.took_s)
    if isinstance(event, Refused):
        if event.trial == PLAN and state.stage is Stage.PLAN:
            state = replace(state, stopped=event.why)
        if event.trial == PLAN or state.stage is Stage.PAIRS:
            return _ended(state, PLAN, 1.0, f"nothing is changed: {event.why}")
        return replace(state, refused=(*state.refused, event))
    kept = state.pairs if state.stage is Stage.PAIRS else state.rates
    kept = {**kept, event.trial: (*kept.get(event.trial, ()), *event.rates)}
    if state.stage is Stage.PAIRS:
        return replace(state, pairs=kept)
    if event.trial == PLAN:
        state = replace(state, cost_s=event.took_s / max(len(event.rates), 1))
    return replace(state, rates=kept, seen={**state.seen, event.trial: kept[event.trial]})


def _next_try(state: State) -> Try | None:
    """Return the next that waits, if there is time for it and for the last comparison."""
    if not state.waiting or state.stage is Stage.PLAN:
        return None
    limit = max(_MOST_TIMES_SLOWER * state.cost_s * state.times, _LEAST_LIMIT_S)
    if state.stage is Stage.PAIRS and state.spent_s < state.budget_s:
        return Try(trial=state.waiting[0], times=1, limit_s=limit, held_out=True)
    if state.stage is Stage.PAIRS:
        return None  # it took longer than the plan ever did: what there is has to do
    if state.spent_s + state.times * state.cost_s + _last_s(state) > state.budget_s:
        return None
    return Try(trial=state.waiting[0], times=state.times, limit_s=limit)


def _last_s(state: State) -> float:
    return 2 * PAIRS * state.cost_s


def _next_stage(state: State) -> State:
    match state.stage:
        case Stage.PLAN:
            return replace(state, stage=Stage.ALONE)
        case Stage.ALONE | Stage.HALVING:
            return _halved(state)
        case Stage.TOGETHER:
            return _paired(state)
        case _:
            return _judged(state)


def _better(state: State) -> list[Trial]:
    """Return the trials that beat the plan so far, the best first."""
    plan = statistics.median(state.rates[PLAN])
    middle = {trial: statistics.median(rates) for trial, rates in state.rates.items()}
    better = [trial for trial in middle if trial != PLAN and middle[trial] > plan]
    return sorted(better, key=lambda trial: -middle[trial])  # of equals the earlier one stays first


def _halved(state: State) -> State:
    better = _better(state)
    is_last = len(better) <= _FEW or bool(state.waiting)  # something still waits: the time is up
    if state.stage is Stage.HALVING and is_last:
        return replace(state, stage=Stage.TOGETHER, waiting=_together(better))
    if not better:
        why = _too_short(state) if state.waiting else "nothing that was tried was faster than the plan"
        return _ended(state, PLAN, 1.0, why)
    # the plan is measured again with them: what disturbs the machine now disturbs it too
    left = better[: max((len(better) + 1) // 2, min(len(better), _FEW))]
    rates = {trial: state.rates[trial] for trial in (PLAN, *left)}
    times = state.times * 2
    return replace(
        state, stage=Stage.HALVING, waiting=(PLAN, *left), times=times, rates=rates, champion=better[0]
    )


def _together(better: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the best setting of each knob, all at once; nothing if that is one."""
    best: dict[str, Setting] = {}
    words: set[str] = set()
    for [setting] in better:
        flags = {word for word in setting.words if word.startswith("-")}
        if setting.knob not in best and not flags & words:
            best[setting.knob] = setting
            words |= flags
    return (tuple(best.values()),) if len(best) > 1 else ()


def _paired(state: State) -> State:
    better = _better(state)
    if not better:
        return _ended(state, PLAN, 1.0, "nothing that was tried was faster than the plan")
    if state.spent_s + _last_s(state) > state.budget_s:
        return _ended(state, PLAN, 1.0, _too_short(state))
    turns = (PLAN, better[0], better[0], PLAN) * (PAIRS // 2)
    return replace(state, stage=Stage.PAIRS, waiting=turns, times=1, champion=better[0])


def _judged(state: State) -> State:
    champion, plan = state.pairs.get(state.champion, ()), state.pairs.get(PLAN, ())
    if not champion or not plan:
        return _ended(state, PLAN, 1.0, _too_short(state))
    chosen = statistics.median(state.rates[state.champion]) / statistics.median(state.rates[PLAN])
    verdict = judge_pairs(champion, plan, chosen)
    winner = state.champion if verdict.is_faster else PLAN
    return _ended(state, winner, verdict.ratio, verdict.why)


def _too_short(state: State) -> str:
    needed = math.ceil(3 * _last_s(state) / 60)  # the settings themselves take as long, and so do repeats
    return (
        f"the time is too short to tell anything from noise: a measurement takes {state.cost_s:.1f} s, and "
        f"the last comparison alone {2 * PAIRS} of them; --minutes {needed}"
    )


def _ended(state: State, winner: Trial, ratio: float, why: str) -> State:
    return replace(state, stage=Stage.DONE, waiting=(), outcome=Outcome(winner=winner, ratio=ratio, why=why))
