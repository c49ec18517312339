"""What the threads of a transfer share: the board, the shards that are open, and what the calling thread is told."""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from dataclasses import dataclass

from launcher.models.transfer.digest import Digest
from launcher.models.transfer.failures import Trouble
from launcher.models.transfer.partial_file import Part
from launcher.models.transfer.schedule import Board
from launcher.models.transfer.tuning import Tuning
from launcher.models.transfer.wanted import Wanted


@dataclass(slots=True, kw_only=True)
class Open:
    """A shard that is being fetched. `held` is its lock, `link` where redirects led."""

    wanted: Wanted
    part: Part
    held: ExitStack
    digest: Digest
    link: str | None = None
    retried: bool = False
    knows_version: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """All of a shard is here and on the disk."""

    shard: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp:
    """A shard's last failure in a row."""

    shard: int
    trouble: Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The server is asked again after `wait_s`."""

    status: int | None
    wait_s: float


Event = Whole | GaveUp | Busy | BaseException


class UnderWay:
    """`changed` guards the board, `open`, the fields of what is open, and `stopped`; `events` need no lock."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.board = Board(tuning)
        self.open: dict[int, Open] = {}
        self.stopped = False
        self.changed = threading.Condition()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
