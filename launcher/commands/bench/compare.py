"""Put two measurements side by side: another engine's, or an earlier one of the same line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.plan.forecast.benched import Benched, Samples
from launcher.plan.forecast.noise import LEAST_CHANGE, LEAST_SURE, Difference, compare_rates

NOISE_RULE = (
    f"a difference is one where the medians are {LEAST_CHANGE:.0%} apart and a rank test of all repetitions "
    f"gives chance {LEAST_SURE:.0%} at most"
)
_WAYS = {
    "prompt": "prompt, llama-bench",
    "reply": "reply, llama-bench",
    "api_prompt": "prompt, HTTP API",
    "api_reply": "reply, HTTP API",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One test, measured twice."""

    depth: int
    what: str
    now: Samples
    before: Samples
    difference: Difference

    @property
    def ratio(self) -> float:
        return self.now.median / self.before.median


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A measurement against the one before it."""

    before: Benched
    rows: tuple[Compared, ...]

    @property
    def slower(self) -> tuple[Compared, ...]:
        return tuple(row for row in self.rows if row.difference is Difference.SLOWER)

    @property
    def is_slower(self) -> bool:
        return bool(self.slower)


def against_baseline(now: Benched, before: Benched) -> Gate:
    return Gate(before=before, rows=tuple(side_by_side(now, before)))


def side_by_side(now: Benched, before: Benched) -> Iterator[Compared]:
    """Yield every test that both have, of the same prompt and reply."""
    if (now.prompt_tokens, now.reply_tokens) != (before.prompt_tokens, before.reply_tokens):
        return
    earlier = {speed.depth: speed for speed in before.speeds}
    for speed in now.speeds:
        other = earlier.get(speed.depth)
        for field, what in _WAYS.items():
            ours, theirs = getattr(speed, field), getattr(other, field, None)
            if ours is not None and theirs is not None:
                yield Compared(
                    depth=speed.depth,
                    what=what,
                    now=ours,
                    before=theirs,
                    difference=compare_rates(ours.rates, theirs.rates),
                )
