"""Compare two engines: flags that only one of them has, and the memory and speed of a model in each."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.commands.bench.bench import BenchRequest, bench
from launcher.commands.bench.compare import Compared
from launcher.commands.bench.llama_bench import Tests
from launcher.commands.engine_choice import require
from launcher.commands.here import Here
from launcher.commands.plan import plan
from launcher.commands.planned import PlanRequest, fitting
from launcher.engine.capabilities import read_capabilities
from launcher.engine.find import Engine
from launcher.engine.flags.help_text import Capabilities
from launcher.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One engine, and what it makes of the model."""

    engine: Engine
    capabilities: Capabilities
    plan: Plan

    @property
    def bytes_by_place(self) -> dict[str, int]:
        """The ledger's bytes on each device and the host."""
        return {row.where: row.used_bytes for row in self.plan.ledger}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What `engine compare A B REF` found."""

    before: Side
    after: Side
    speed: tuple[Compared, ...] = ()  # `now` is the one after; empty if it was not measured

    @property
    def gained(self) -> tuple[str, ...]:
        return _only_in(self.after.capabilities, self.before.capabilities)

    @property
    def lost(self) -> tuple[str, ...]:
        return _only_in(self.before.capabilities, self.after.capabilities)


def compare(here: Here, before: str, after: str, ref: str, *, measures: bool = False) -> Comparison:
    """Plan the model with both engines, and measure both if asked.

    Raises NotFound, DoesNotFit, and what measuring raises.
    """
    sides = (_side(here, before, ref), _side(here, after, ref))
    speed: tuple[Compared, ...] = ()
    if measures:
        first, second = (side.engine.path for side in sides)
        request = BenchRequest(plan=PlanRequest(ref=ref, engine=first), tests=Tests(), against=str(second))
        speed = bench(here, request).engines
    return Comparison(before=sides[0], after=sides[1], speed=speed)


def _side(here: Here, name: str, ref: str) -> Side:
    engine = require(here, name)
    planned = plan(here, PlanRequest(ref=ref, engine=engine.path))
    found, _ = fitting(planned)
    known = planned.capabilities or read_capabilities(engine, here.settings.cache_dir)
    return Side(engine=engine, capabilities=known, plan=found)


def _only_in(one: Capabilities, other: Capabilities) -> tuple[str, ...]:
    """List flags by their last spelling, the long one, of which `other` knows no spelling."""
    missing = (option for option in one.options if not any(map(other.has, option.spellings)))
    return tuple(option.spellings[-1] for option in missing)
