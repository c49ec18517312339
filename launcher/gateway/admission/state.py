"""The models of a machine, the memory they hold, and the requests that wait. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

Bytes = Mapping[str, int]
"""Bytes by place: a device's key, RAM, or a group."""


_GROUP = "group "


def group_place(group: str) -> str:
    """Return a place in which each model of a group takes 1, and as many lie as may run at once."""
    return f"{_GROUP}{group}"


def is_group(place: str) -> bool:
    return place.startswith(_GROUP)


class Phase(StrEnum):
    UNPLANNED = "unplanned"  # what it takes is not known yet
    PLANNING = "planning"
    OUT = "out"
    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"
    LEAVING = "leaving"  # its process is gone, and its memory not seen back yet


HOLDING = frozenset({Phase.LOADING, Phase.READY, Phase.STOPPING, Phase.LEAVING})
"""In these phases a model holds its bytes."""

STAYING = frozenset({Phase.LOADING, Phase.READY})
GOING = frozenset({Phase.STOPPING, Phase.LEAVING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a model could not be planned or loaded last."""

    sentence: str
    why: str  # a Refusal
    until: float  # requests before this time get the same answer, and nothing is tried
    n_times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    phase: Phase = Phase.UNPLANNED
    needs: Bytes = field(default_factory=dict)  # planned; after a load what was seen
    load_s: float = 10.0  # planned; after a load what it took
    slots: int = 4  # requests at once
    priority: int = 0  # higher goes first
    pinned: bool = False  # never unloaded to make room, nor for being idle
    ttl_s: float | None = 1800.0  # idle for so long, it is unloaded
    n_active: int = 0
    used_at: float = 0.0
    use: float = 0.0  # requests so far, each halved for every half-life since
    asked_for: bool = False  # to be loaded without a request
    ready_at: float = 0.0
    stopped_at: float = 0.0
    # A plan for the memory that is free, where the whole one needs others to go.
    can_shrink: bool = False  # it has layers on GPUs, which may lie in RAM instead
    shrinking: bool = False  # such a plan is being made
    asked_within: Bytes | None = None  # for what was free then
    n_asked: int = 0  # since it was loaded last
    small: Bytes | None = None  # what it takes
    whole: Bytes | None = None  # what the model takes that was started with it
    failure: Failure | None = None
    short_since: float | None = None  # it fitted once, and since then not even alone

    @property
    def is_idle(self) -> bool:
        return self.phase is Phase.READY and not self.n_active


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that waits for its model."""

    request: str
    model: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Yielding:
    """Models that take no new requests, because another has waited long enough for their memory."""

    to: str
    models: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    models: Mapping[str, Model] = field(default_factory=dict)
    # what our models may hold together: the machine's, without what others hold
    capacity: Bytes = field(default_factory=dict)
    most: Bytes = field(default_factory=dict)  # of the capacity, so far
    # what deployments hold that are not among the models yet, by name: the capacity is without it
    outside: Mapping[str, Bytes] = field(default_factory=dict)
    waiting: tuple[Waiting, ...] = ()  # by arrival
    active: Mapping[str, str] = field(default_factory=dict)  # the models of admitted requests
    yielding: Yielding | None = None

    def having(self, name: str, model: Model) -> State:
        """Return the state with this model in place of the one of that name."""
        return replace(self, models={**self.models, name: model})

    def having_capacity(self, capacity: Bytes) -> State:
        """Return the state with this capacity."""
        most = {place: max(n_bytes, self.most.get(place, 0)) for place, n_bytes in capacity.items()}
        return replace(self, capacity=capacity, most={**self.most, **most})

    def held(self, phases: Iterable[Phase] = HOLDING, but_not: Iterable[str] = ()) -> dict[str, int]:
        """Sum what the models in these phases hold."""
        total: dict[str, int] = {}
        phases, left_out = frozenset(phases), frozenset(but_not)
        for name, model in self.models.items():
            if model.phase in phases and name not in left_out:
                for place, n_bytes in model.needs.items():
                    total[place] = total.get(place, 0) + n_bytes
        return total

    def waits_for(self, name: str) -> tuple[Waiting, ...]:
        return tuple(each for each in self.waiting if each.model == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    most_waiting: int = 256  # requests; the next is refused
    most_wait_s: float = 1800.0  # a request that has waited so long is refused
    patience_s: float = 20.0  # so long a model waits for busy ones; then they take no new requests
    turn_loads: float = 4.0  # so many times as long as its load took, a busy model keeps its memory ...
    most_turn_s: float = 300.0  # ... but no longer than this, nor shorter than its load and the patience
    priority_s: float = 60.0  # a priority counts as having arrived so much earlier
    back_s: float = 20.0  # memory that is not seen back by then is somebody else's
    shortage_s: float = 60.0  # so long what others took is waited for; then requests are refused
    slack_bytes: int = 64 << 20  # a driver's figure may be so much off
    retry_s: float = 10.0  # until a load that failed is tried again; doubled for every failure in a row
    most_retry_s: float = 600.0
    least_share: float = 0.7  # of the whole plan's speed, for one with fewer layers on GPUs
    most_asked: int = 4  # times that such a plan is asked for before others go
    half_life_s: float = 1800.0  # of a request's weight when the model to unload is chosen

    def turn_s(self, load_s: float) -> float:
        """Return how long a busy model that took `load_s` to load keeps its memory."""
        return max(self.patience_s, load_s, min(self.most_turn_s, self.turn_loads * load_s))
