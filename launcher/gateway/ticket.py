"""A request's place in the queue, and what those who wait can be told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from launcher.gateway.admission.events import Refusal
from launcher.gateway.admission.state import Phase


class Refused(Exception):
    """A request is refused."""

    def __init__(self, why: Refusal, sentence: str, retry_after_s: float | None) -> None:
        super().__init__(sentence)
        self.why, self.sentence, self.retry_after_s = why, sentence, retry_after_s


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that waits for its model, or has it."""

    request: str
    model: str
    admitted: asyncio.Future[None]  # Refused as its exception


@dataclass(slots=True)
class Moment:
    """What a model is doing, for those who wait for it."""

    since: float
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A model's way from one phase to another."""

    at: float  # seconds since 1970
    model: str
    phase: Phase
    words: str = ""  # why it failed, or what is worth saying
