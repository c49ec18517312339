"""A machine in simulated time: admission drives it, and every promise is checked at every step."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from launcher.gateway.admission.advance import advance
from launcher.gateway.admission.events import (
    Admit,
    Arrived,
    Effect,
    Ended,
    Event,
    Failed,
    Known,
    Load,
    Loaded,
    Measure,
    Measured,
    Plan,
    Planned,
    Refusal,
    Refuse,
    Shrink,
    Shrunk,
    Stopped,
    Ticked,
    Unload,
)
from launcher.gateway.admission.state import Model, Phase, Policy, State

TICK_S = 5.0


@dataclass(frozen=True)
class Kind:
    """A model as the machine really has it."""

    needs: Mapping[str, int]
    load_s: float
    slots: int = 4
    pinned: bool = False
    priority: int = 0
    ttl_s: float | None = 1800.0
    small: Mapping[str, int] | None = None  # with fewer layers on GPUs
    share: float = 0.8  # of its speed then


@dataclass(frozen=True)
class Ask:
    at: float
    model: str
    lasts_s: float
    gone_after_s: float | None = None  # the client leaves, answered or not


@dataclass(frozen=True)
class Other:
    """Another program, which takes memory of what is free, and gives it back."""

    at: float
    until: float
    place: str
    n_bytes: int


@dataclass
class Outcome:
    waits: dict[str, float] = field(default_factory=dict)  # of requests that were admitted
    refused: dict[str, Refusal] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    loads: int = 0
    unloads: int = 0
    shrunk: int = 0
    ahead: dict[str, int] = field(default_factory=dict)  # requests not answered yet when this one came


class World:
    """A machine, its clock and its requests. `lag` is how long a driver keeps memory of a process that is gone."""

    def __init__(
        self,
        capacity: Mapping[str, int],
        kinds: Mapping[str, Kind],
        policy: Policy | None = None,
        *,
        chance: random.Random | None = None,
        lag_s: float = 0.0,
        failing: float = 0.0,
        plan_s: float = 0.5,
        stop_s: float = 1.0,
        others: Sequence[Other] = (),
    ) -> None:
        self.capacity, self.kinds = dict(capacity), dict(kinds)
        self.policy = policy or Policy(slack_bytes=0)
        self.chance = chance or random.Random(0)
        self.others = others
        self.lag_s, self.failing, self.plan_s, self.stop_s = lag_s, failing, plan_s, stop_s
        self.state = State(capacity=dict(capacity), most=dict(capacity))
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.outcome = Outcome()
        self.taken: dict[str, Mapping[str, int]] = {}  # memory that is really in use, by process
        self.asks: dict[str, Ask] = {}
        self.measuring = False
        self.in_flight: set[tuple[str, str]] = set()

    def run(self, asks: Sequence[Ask], *, until_quiet: bool = True) -> Outcome:
        for name, kind in self.kinds.items():
            self._tell(Known(name=name, model=self._settings(kind), now=self.now))
        for index, ask in enumerate(asks):
            self.at(ask.at, self._arrive(f"r{index}", ask))
        for number, other in enumerate(self.others):
            self.at(other.at, self._take(f"other {number}", other))
            self.at(other.until, lambda key=f"other {number}": self.taken.pop(key, None))
        self._schedule_tick()
        while self.heap:
            self.now, _, act = heapq.heappop(self.heap)
            act()
            if until_quiet and len(self._answered()) == len(asks) and not self.state.active:
                break
        return self.outcome

    def _answered(self) -> set[str]:
        return self.outcome.waits.keys() | self.outcome.refused.keys() | self.outcome.gone

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (when, next(self.order), act))

    @staticmethod
    def _settings(kind: Kind) -> Model:
        return Model(slots=kind.slots, pinned=kind.pinned, priority=kind.priority, ttl_s=kind.ttl_s)

    def _schedule_tick(self) -> None:
        def tick() -> None:
            self._tell(Ticked(now=self.now))
            if self.others:
                self._do(Measure())
            self.at(self.now + TICK_S, tick)

        self.at(self.now + TICK_S, tick)

    def _take(self, key: str, other: Other) -> Callable[[], None]:
        def take() -> None:
            self.taken[key] = {other.place: min(other.n_bytes, self.free()[other.place])}

        return take

    def _arrive(self, request: str, ask: Ask) -> Callable[[], None]:
        def arrive() -> None:
            self.asks[request] = ask
            self.outcome.ahead[request] = len(self.state.waiting) + len(self.state.active)
            self._tell(Arrived(request=request, model=ask.model, now=self.now))
            if ask.gone_after_s is not None:
                self.at(self.now + ask.gone_after_s, lambda: self._leave(request))

        return arrive

    def _leave(self, request: str) -> None:
        if request not in self._answered():
            self.outcome.gone.add(request)
        self._tell(Ended(request=request, now=self.now))

    def _tell(self, event: Event) -> None:
        self.state, effects = advance(self.state, event, self.policy)
        self.check()
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Admit(request, name):
                assert self.state.models[name].phase is Phase.READY
                assert request not in self._answered(), "answered twice"
                ask = self.asks[request]
                self.outcome.waits[request] = self.now - ask.at
                self.at(self.now + ask.lasts_s, lambda: self._tell(Ended(request=request, now=self.now)))
            case Refuse():
                assert effect.request not in self._answered(), "answered twice"
                assert effect.sentence
                self.outcome.refused[effect.request] = effect.why
            case Plan(name):
                self._once("plan", name)
                self.at(self.now + self.plan_s, lambda: self._planned(name))
            case Shrink(name, _):
                self._once("shrink", name)
                self.at(self.now + self.plan_s, lambda: self._shrunk(name))
            case Load(name, needs):
                self._once("load", name)
                if self.others and self._lacking(needs):  # one was quicker than the last look
                    self.at(self.now + self.plan_s, lambda: self._found_no_room(name))
                    return
                self._check_load(name, needs)
                self.outcome.loads += 1
                self.taken[name] = needs
                load_s = self.kinds[name].load_s
                fails = self.chance.random() < self.failing
                self.at(self.now + load_s, lambda: self._loaded(name, load_s, fails=fails))
            case Unload(name):
                self._once("unload", name)
                assert not self.state.models[name].n_active, "a busy model is unloaded"
                assert not self.state.models[name].pinned, "a pinned model is unloaded"
                self.outcome.unloads += 1
                self.at(self.now + self.stop_s, lambda: self._stopped(name))
            case Measure():
                if not self.measuring:
                    self.measuring = True
                    self.at(self.now + 0.25, self._measure)

    def _once(self, what: str, name: str) -> None:
        assert not any(name == other for _, other in self.in_flight), f"{what} of {name} beside another"
        self.in_flight.add((what, name))

    def _planned(self, name: str) -> None:
        self.in_flight.discard(("plan", name))
        kind = self.kinds[name]
        can_shrink = kind.small is not None
        self._tell(
            Planned(name=name, needs=kind.needs, load_s=kind.load_s, now=self.now, can_shrink=can_shrink)
        )

    def _shrunk(self, name: str) -> None:
        self.in_flight.discard(("shrink", name))
        self.outcome.shrunk += 1
        kind = self.kinds[name]
        self._tell(Shrunk(name=name, needs=kind.small, share=kind.share, now=self.now))

    def _loaded(self, name: str, load_s: float, *, fails: bool) -> None:
        self.in_flight.discard(("load", name))
        if fails:
            self._free_later(name)
            self._tell(Failed(name=name, sentence=f"{name} does not load", now=self.now))
        else:
            self._tell(Loaded(name=name, seen=self.taken[name], load_s=load_s, now=self.now))

    def _stopped(self, name: str) -> None:
        self.in_flight.discard(("unload", name))
        self._free_later(name)
        self._tell(Stopped(name=name, now=self.now))

    def _free_later(self, name: str) -> None:
        key = f"{name} gone at {self.now}"
        self.taken[key] = self.taken.pop(name)

        def free() -> None:
            del self.taken[key]

        lag = self.chance.uniform(0, self.lag_s)
        if lag:
            self.at(self.now + lag, free)
        else:
            free()

    def free(self) -> dict[str, int]:
        return {
            place: total - sum(needs.get(place, 0) for needs in self.taken.values())
            for place, total in self.capacity.items()
        }

    def _measure(self) -> None:
        self.measuring = False
        self._tell(Measured(free=self.free(), now=self.now))
        if any(model.phase is Phase.LEAVING for model in self.state.models.values()):
            self._do(Measure())

    def _found_no_room(self, name: str) -> None:
        self.in_flight.discard(("load", name))
        why = Refusal.DOES_NOT_FIT
        self._tell(Failed(name=name, sentence=f"{name} does not fit", now=self.now, why=why))

    def _lacking(self, needs: Mapping[str, int]) -> set[str]:
        free = self.free()
        return {place for place, n_bytes in needs.items() if n_bytes > free[place]}

    def _check_load(self, name: str, needs: Mapping[str, int]) -> None:
        over = self._lacking(needs)
        assert not over, f"{name} starts although {over} has not got its bytes: {self.free()}"

    def check(self) -> None:
        state = self.state
        held = state.held()
        for place, n_bytes in held.items():
            assert n_bytes <= state.capacity.get(place, 0), f"{place} is over its budget: {held}"
        for name, model in state.models.items():
            active = sum(1 for other in state.active.values() if other == name)
            assert active <= model.slots
            assert model.n_active == active, name
        assert len(state.waiting) <= self.policy.most_waiting
        assert all(each.model in state.models for each in state.waiting)
