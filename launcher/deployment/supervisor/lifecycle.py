"""Decide the life of one deployment: a table of state x event -> state and effects. Pure.

A child lives in READY, DEGRADED, STOPPING and STARTING, but not between Spawn and the event that answers it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"  # it was ready and lives, but did not answer the last check
    BACKOFF = "backoff"
    STOPPING = "stopping"
    FAILED = "failed"


class Timer(StrEnum):
    RESTART = "restart"
    GRACE = "grace"
    CHECK = "check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What to do about a server that ends by itself."""

    keep_up: bool = False  # start it again
    max_restarts: int = 5  # within window_s
    window_s: float = 600.0
    pause_s: float = 1.0  # before the first restart; longer each time
    most_pause_s: float = 30.0
    grace_s: float = 10.0  # until SIGKILL; as llama-server's own router gives its children (stop-timeout)
    check_s: float = 30.0  # between two health checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    state: State = State.STOPPED
    child: bool = False  # a llama-server lives
    condemned: bool = False  # it is being killed because it did not become ready
    was_ready: bool = False
    crashes: tuple[float, ...] = ()  # times of endings within the window, in seconds of any steady clock
    restarts: int = 0
    generation: int = 0  # of the last timer armed; one that fires late is ignored
    timers: tuple[tuple[Timer, int], ...] = ()


# ---- events ----


@dataclass(frozen=True, slots=True)
class Start:
    was_ready: bool = False  # it ran under a supervisor that was killed


@dataclass(frozen=True, slots=True)
class Stop:
    pass


@dataclass(frozen=True, slots=True)
class Spawned:
    pass


@dataclass(frozen=True, slots=True)
class NotSpawned:
    """The program cannot be run."""

    now: float


@dataclass(frozen=True, slots=True)
class Answered:
    """The child produced a token (and read the long prompt), so it is ready."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """The child lives, but stalled, or answers without producing a token."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The child is gone, and reaped."""

    now: float


@dataclass(frozen=True, slots=True)
class HealthChecked:
    well: bool


@dataclass(frozen=True, slots=True)
class Elapsed:
    timer: Timer
    generation: int


Event = Start | Stop | Spawned | NotSpawned | Answered | Unfit | Exited | HealthChecked | Elapsed

# ---- effects, and the events that answer them ----
#
# Spawn: Spawned or NotSpawned. Watch the load: Answered, Unfit or Exited. CheckHealth: HealthChecked.
# AskExit and Kill: Exited, in time or not. Arm a timer: Elapsed. Leave ends the supervisor.


@dataclass(frozen=True, slots=True)
class Spawn:
    pass


@dataclass(frozen=True, slots=True)
class Watch:
    pass


@dataclass(frozen=True, slots=True)
class CheckHealth:
    pass


@dataclass(frozen=True, slots=True)
class AskExit:
    pass


@dataclass(frozen=True, slots=True)
class Kill:
    pass


@dataclass(frozen=True, slots=True)
class Arm:
    timer: Timer
    generation: int
    after_s: float


@dataclass(frozen=True, slots=True)
class Leave:
    pass


Effect = Spawn | Watch | CheckHealth | AskExit | Kill | Arm | Leave
Next = tuple[Lifecycle, tuple[Effect, ...]]


def advance(life: Lifecycle, event: Event, policy: Policy) -> Next:  # noqa: C901, PLR0911, PLR0912  one table
    """Return the life after `event`, and what to do."""
    nothing: Next = (life, ())
    match event, life.state:
        case Start(was_ready), State.STOPPED | State.FAILED:
            fresh = Lifecycle(state=State.STARTING, was_ready=was_ready, generation=life.generation)
            return fresh, (Spawn(),)
        case Spawned(), State.STARTING if not life.child:
            return replace(life, child=True), (Watch(),)
        case Spawned(), State.STOPPING if not life.child:  # the stop came while it was being started
            return _asked_to_exit(replace(life, child=True), policy)
        case NotSpawned(now), State.STARTING if not life.child:
            return _crashed(life, now, policy)
        case NotSpawned(), State.STOPPING if not life.child:
            return _over(life, State.STOPPED)
        case Answered(), State.STARTING if life.child and not life.condemned:
            return _armed(replace(life, state=State.READY, was_ready=True), Timer.CHECK, policy.check_s)
        case Unfit(), State.STARTING if life.child and not life.condemned:
            return replace(life, condemned=True), (Kill(),)
        case HealthChecked(well), State.READY | State.DEGRADED:
            state = State.READY if well else State.DEGRADED
            return _armed(replace(life, state=state), Timer.CHECK, policy.check_s)
        case Exited(now), State.STARTING | State.READY | State.DEGRADED if life.child:
            return _crashed(replace(life, child=False), now, policy)
        case Exited(), State.STOPPING if life.child:
            return _over(replace(life, child=False), State.STOPPED)
        case Stop(), State.STARTING if not life.child:
            return _disarmed(replace(life, state=State.STOPPING)), ()
        case Stop(), State.STARTING | State.READY | State.DEGRADED:
            return _asked_to_exit(replace(life, state=State.STOPPING), policy)
        case Stop(), State.BACKOFF:
            return _over(life, State.STOPPED)
        case Elapsed(timer, generation), _ if (timer, generation) in life.timers:
            return _elapsed(_disarmed(life), timer)
        case _:  # the event means nothing in this state
            return nothing


def pause_s(policy: Policy, n_crashes: int) -> float:
    """Return the pause before the next start: doubled with every crash in the window."""
    return min(policy.most_pause_s, float(policy.pause_s * 2 ** min(30, max(0, n_crashes - 1))))


def _elapsed(life: Lifecycle, timer: Timer) -> Next:
    match timer:
        case Timer.RESTART:
            again = replace(life, state=State.STARTING, restarts=life.restarts + 1, condemned=False)
            return again, (Spawn(),)
        case Timer.GRACE:
            return life, (Kill(),)
        case Timer.CHECK:
            return life, (CheckHealth(),)


def _crashed(life: Lifecycle, now: float, policy: Policy) -> Next:
    """Go on after an ending that was not asked for, or a start that failed."""
    # Only a server that was ready once is started again: a first load fails for a reason, which `up` reports.
    recent = tuple(at for at in life.crashes if now - at < policy.window_s)
    crashes = (*recent, now)
    life = replace(life, crashes=crashes, condemned=False)
    if policy.keep_up and life.was_ready and len(recent) < policy.max_restarts:
        waiting = replace(life, state=State.BACKOFF)
        return _armed(waiting, Timer.RESTART, pause_s(policy, len(crashes)))
    return _over(life, State.FAILED)


def _asked_to_exit(life: Lifecycle, policy: Policy) -> Next:
    life, effects = _armed(life, Timer.GRACE, policy.grace_s)
    return life, (AskExit(), *effects)


def _over(life: Lifecycle, state: State) -> Next:
    return _disarmed(replace(life, state=state, condemned=False)), (Leave(),)


def _armed(life: Lifecycle, timer: Timer, after_s: float) -> Next:
    generation = life.generation + 1
    # In place of any other timer: every state waits for one thing.
    life = replace(life, generation=generation, timers=((timer, generation),))
    return life, (Arm(timer, generation, after_s),)


def _disarmed(life: Lifecycle) -> Lifecycle:
    return replace(life, timers=())
