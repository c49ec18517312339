"""A request's place in the queue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from launcher.gateway.admission.events import Refusal


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
