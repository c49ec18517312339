"""What happens to models and requests, and what is to be done about it. Pure.

Times are seconds of any steady clock. Every effect but Admit and Refuse is answered by an event:
Plan by Planned or Failed, Shrink by Shrunk, Load by Loaded or Failed, Unload by Stopped, Measure by Measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from launcher.gateway.admission.state import Bytes, Model


class Refusal(StrEnum):
    """Why a request is refused."""

    UNKNOWN_MODEL = "unknown_model"
    DOES_NOT_FIT = "does_not_fit"
    SHORT_OF_MEMORY = "short_of_memory"  # it would fit if others had not taken some
    QUEUE_FULL = "queue_full"
    WAITED_TOO_LONG = "waited_too_long"
    LOAD_FAILED = "load_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A model can be asked for, or its settings changed; `model` may be ready already (adopted)."""

    name: str
    model: Model
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    request: str
    model: str
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A request is answered, or its client is gone, whether it was admitted or not."""

    request: str
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    name: str
    needs: Bytes
    load_s: float
    now: float
    can_shrink: bool = False  # it has layers on GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A plan for the memory that was free when it was asked for."""

    name: str
    needs: Bytes | None  # None: there is none
    share: float  # of the whole plan's speed
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    name: str
    seen: Bytes | None  # what it takes; None if nobody can tell
    load_s: float
    now: float
    slots: int | None = None  # requests at once, as it was started; None: as planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It could not be planned or loaded; nothing of it runs."""

    name: str
    sentence: str
    now: float
    why: Refusal = Refusal.LOAD_FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Its process is gone, asked for or not."""

    name: str
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StayedUp:
    """It could not be unloaded: it runs on."""

    name: str
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Memory that is free for our models; places that no driver tells of are absent."""

    free: Bytes
    now: float
    # what deployments had when this was read, by name, and `free` is without; None: nobody knows
    beside: Mapping[str, Bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAsked:
    name: str
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadAsked:
    """Unload it as soon as it is idle."""

    name: str
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time has passed."""

    now: float


Event = (
    Known
    | Arrived
    | Ended
    | Planned
    | Shrunk
    | Loaded
    | Failed
    | Stopped
    | StayedUp
    | Measured
    | LoadAsked
    | UnloadAsked
    | Ticked
)

# ---- effects ----


@dataclass(frozen=True, slots=True)
class Admit:
    request: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    request: str
    why: Refusal
    sentence: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    model: str


@dataclass(frozen=True, slots=True)
class Shrink:
    """Plan the model for the memory that is free now."""

    model: str
    within: Bytes


@dataclass(frozen=True, slots=True)
class Load:
    """Load the model within `needs`."""

    model: str
    needs: Bytes


@dataclass(frozen=True, slots=True)
class Unload:
    model: str


@dataclass(frozen=True, slots=True)
class Measure:
    """Tell what is free, again and again until no memory is on its way back."""


Effect = Admit | Refuse | Plan | Shrink | Load | Unload | Measure
