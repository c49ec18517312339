"""Put the models of a router together: which sets of them do not fit, and how many always do.

Only wiring: which sets are suspect is `plan.check.together`'s to say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.commands.check import Bench, Checked, judge_line
from launcher.commands.here import Here
from launcher.engine.flags.command_line import Command
from launcher.engine.flags.router_lines import Child
from launcher.errors import LauncherError, UsageError
from launcher.plan.check.check import Check
from launcher.plan.check.together import Share, overruns_of, share_of, suspects
from launcher.plan.plan import Finding
from launcher.plan.search.rescue import with_less_free
from launcher.units import listed


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterModel:
    """One model of a router, checked alone; `error` is why it could not be."""

    child: Child
    command: Command | None = None
    checked: Checked | None = None
    error: LauncherError | None = None

    @property
    def finding(self) -> Finding:
        if isinstance(self.error, UsageError):
            return Finding.DOES_NOT_FIT  # llama-server would not start it
        if self.checked is None:
            return Finding.UNVERIFIED
        return self.checked.verdict.finding if self.checked.starts else Finding.DOES_NOT_FIT


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge:
    """Models that are too large together, in the order in which they are loaded; the last does not fit."""

    names: tuple[str, ...]
    where: str
    missing_bytes: int
    at_startup: bool


class LoadedTogether:
    """The models of a router that load when they are alone, put together."""

    def __init__(self, here: Here, bench: Bench, models: Sequence[RouterModel]) -> None:
        self._here, self._bench = here, bench
        self._models = {
            model.child.name: model for model in models if model.checked and model.checked.verdict.fits
        }
        self._shares = [_share(model) for model in self._models.values()]
        self._outcomes: dict[tuple[str, ...], TooLarge | None] = {}
        self._smaller: dict[str, str] = {}

    @property
    def smaller(self) -> tuple[str, ...]:
        """Say which models --fit has made smaller in the sets that were tried."""
        return tuple(self._smaller.values())

    def at_startup(self) -> TooLarge | None:
        """Return the models of the start if they are too large: all load at once, as if each were alone."""
        first = [share for share in self._shares if self._models[share.name].child.at_startup]
        over = overruns_of(first)
        if not over:
            return None
        where = max(over, key=lambda where: over[where])
        return TooLarge(
            names=tuple(share.name for share in first),
            where=where,
            missing_bytes=over[where],
            at_startup=True,
        )

    def on_demand(self, most: int) -> TooLarge | None:
        """Return a set of at most `most` models that do not fit one after another."""
        outcomes = (self._in_turn(chosen) for chosen in suspects(self._shares, most))
        return next((outcome for outcome in outcomes if outcome is not None), None)

    def most_that_fit(self, given: int) -> int | None:
        """Return the largest number of models that always fit, below the given one; None if that is none."""
        started = sum(model.child.at_startup for model in self._models.values())
        if self.at_startup() is not None:
            return None
        top = min(given, len(self._shares))
        found = bisect_left(range(1, top), True, key=lambda most: self.on_demand(most) is not None)
        return found if found >= max(1, started) else None

    def _in_turn(self, chosen: Sequence[Share]) -> TooLarge | None:
        names = tuple(share.name for share in chosen)
        if names not in self._outcomes:
            self._outcomes[names] = self._load(names)
        return self._outcomes[names]

    def _load(self, names: tuple[str, ...]) -> TooLarge | None:
        bench = self._bench
        for at, name in enumerate(names):
            model = self._models[name]
            if model.command is None or model.checked is None:
                continue
            verdict = judge_line(self._here, bench, model.command) if at else model.checked.verdict
            if not verdict.fits:
                first = verdict.failures[0] if verdict.failures else None
                return TooLarge(
                    names=names[: at + 1],
                    where=first.where if first else "",
                    missing_bytes=first.missing_bytes if first else 0,
                    at_startup=False,
                )
            self._note_smaller(name, names[:at], model.checked.verdict, verdict)
            used = {row.where: row.memory[0] for row in verdict.ledger}
            bench = replace(bench, machine=with_less_free(bench.machine, used))
        return None

    def _note_smaller(self, name: str, before: Sequence[str], alone: Check, verdict: Check) -> None:
        changes = []
        if verdict.pool < alone.pool:
            changes.append(f"{verdict.pool} tokens of context instead of {alone.pool}")
        if verdict.question.n_gpu_layers != alone.question.n_gpu_layers or len(
            verdict.assignment.moved_blocks
        ) > len(alone.assignment.moved_blocks):
            changes.append("more of it on the host")
        if changes:
            self._smaller[name] = (
                f"loaded after {listed(before)}, {name} has {' and '.join(changes)}, by --fit; "
                "asked for at the same time, each takes what it would take alone, and one of them fails"
            )


def _share(model: RouterModel) -> Share:
    assert model.command is not None and model.checked is not None  # noqa: S101, PT018
    return share_of(model.child.name, model.command.configuration, model.checked.verdict)
