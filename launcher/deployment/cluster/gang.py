"""Decide the life of a gang, one llama-server with ranks on other machines: state x event -> effects. Pure.

A gang is raised whole and ends whole; each of its runs has an epoch, later than those before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from launcher.deployment.cluster.messages import SILENCE_S

RAISE_S = 90.0  # for all ranks to be ready: a driver may take a minute to wake up
LAST_WORDS_S = 2.0  # from llama-server's end to what a rank or tunnel says about it
# llama-server answers /metrics between two batches, and a batch over a network takes seconds.
UNANSWERED_S = 60.0
ASK_S = 5.0  # between two questions to llama-server


class Phase(StrEnum):
    RAISING = "raising"
    SERVING = "serving"
    EXPLAINING = "explaining"  # llama-server has ended, and a rank or its tunnel may still say why
    STOPPING = "stopping"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    phase: Phase = Phase.RAISING
    ready: frozenset[int] = frozenset()  # ranks, by seat
    heard: tuple[float, ...] = ()  # when each was heard of last
    since: float = 0.0  # when the phase began
    answered: float = 0.0  # when llama-server gave its last sign of life
    asked: float = 0.0  # when it was last asked for one
    status: int = 0  # llama-server's exit status


# ---- events ----


@dataclass(frozen=True, slots=True)
class Begun:
    n_seats: int
    now: float


@dataclass(frozen=True, slots=True)
class Heard:
    seat: int
    now: float
    is_ready: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A rank says that it ends, or its tunnel has ended."""

    seat: int
    why: str


@dataclass(frozen=True, slots=True)
class Answered:
    now: float


@dataclass(frozen=True, slots=True)
class Ended:
    """llama-server is gone, and reaped."""

    status: int
    now: float


@dataclass(frozen=True, slots=True)
class StopAsked:
    pass


@dataclass(frozen=True, slots=True)
class Ticked:
    now: float


Event = Begun | Heard | Lost | Answered | Ended | StopAsked | Ticked

# ---- effects ----


@dataclass(frozen=True, slots=True)
class Raise:
    seat: int


@dataclass(frozen=True, slots=True)
class Serve:
    pass


@dataclass(frozen=True, slots=True)
class Beat:
    pass


@dataclass(frozen=True, slots=True)
class Ask:
    pass


@dataclass(frozen=True, slots=True)
class Leave:
    """End the gang with this exit status."""

    status: int = 0
    seat: int | None = None  # of the rank that was lost
    why: str = ""  # it was lost, or llama-server was; empty: llama-server ended by itself


Effect = Raise | Serve | Beat | Ask | Leave
Next = tuple[Gang, tuple[Effect, ...]]


def advance(gang: Gang, event: Event) -> Next:  # noqa: C901, PLR0911  one table
    """Return the gang after `event`, and what to do."""
    match event, gang.phase:
        case _, Phase.OVER:
            return gang, ()
        case Begun(n_seats, now), Phase.RAISING if not gang.heard:
            begun = replace(gang, heard=(now,) * n_seats, since=now)
            return begun, tuple(map(Raise, range(n_seats)))
        case Heard(seat, now, is_ready), Phase.RAISING | Phase.SERVING if seat < len(gang.heard):
            heard = (*gang.heard[:seat], now, *gang.heard[seat + 1 :])
            gang = replace(gang, heard=heard, ready=gang.ready | {seat} if is_ready else gang.ready)
            if gang.phase is Phase.RAISING and len(gang.ready) == len(heard):
                serving = replace(gang, phase=Phase.SERVING, since=now, answered=now, asked=now)
                return serving, (Serve(),)
            return gang, ()
        case Lost(seat, why), Phase.RAISING | Phase.SERVING | Phase.EXPLAINING:
            return _over(gang, Leave(status=1, seat=seat, why=why))
        case Answered(now), Phase.SERVING:
            return replace(gang, answered=now), ()
        case Ended(status, now), Phase.SERVING if status:
            return replace(gang, phase=Phase.EXPLAINING, since=now, status=status), ()
        case Ended(status), Phase.SERVING | Phase.STOPPING:
            return _over(gang, Leave(status=status))
        case StopAsked(), Phase.SERVING:
            return replace(gang, phase=Phase.STOPPING), ()
        case StopAsked(), Phase.RAISING | Phase.EXPLAINING:
            return _over(gang, Leave(status=gang.status))
        case Ticked(now), _:
            return _ticked(gang, now)
        case _:  # the event means nothing in this phase
            return gang, ()


def _ticked(gang: Gang, now: float) -> Next:  # noqa: PLR0911  one line per phase and limit
    silent = next((seat for seat in sorted(gang.ready) if now - gang.heard[seat] > SILENCE_S), None)
    if gang.phase is Phase.EXPLAINING:
        return _over(gang, Leave(status=gang.status)) if now - gang.since > LAST_WORDS_S else (gang, ())
    if gang.phase is Phase.STOPPING:
        return gang, (Beat(),)
    if silent is not None:
        return _over(gang, Leave(status=1, seat=silent, why=f"not a word from it for {SILENCE_S:.0f} s"))
    if gang.phase is Phase.RAISING:
        late = next((seat for seat in range(len(gang.heard)) if seat not in gang.ready), None)
        if now - gang.since > RAISE_S:
            return _over(gang, Leave(status=1, seat=late, why=f"it was not ready within {RAISE_S:.0f} s"))
        return gang, (Beat(),)
    if now - gang.answered > UNANSWERED_S:
        why = f"llama-server has given no sign of life for {UNANSWERED_S:.0f} s"
        return _over(gang, Leave(status=1, why=why))
    if now - gang.asked >= ASK_S:
        return replace(gang, asked=now), (Beat(), Ask())
    return gang, (Beat(),)


def _over(gang: Gang, leave: Leave) -> Next:
    return replace(gang, phase=Phase.OVER), (leave,)
