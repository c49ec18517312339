"""What the threads of a transfer share: the schedule, the shards under way, events for the leading thread."""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from dataclasses import dataclass

from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download
from launcher.models.transfer.failures import Trouble
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.schedule import Schedule
from launcher.models.transfer.tuning import Tuning


@dataclass(slots=True, kw_only=True)
class OpenShard:
    """A shard that is being fetched."""

    download: Download
    partial_file: PartialFile
    lock: ExitStack  # closing it frees the lock
    digest: Digest
    redirected_to: str | None = None  # where redirects led, for the next request
    second_try: bool = False  # its first sha256 was wrong
    knows_version: bool = False  # the server has named a version in this transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardComplete:
    """All of a shard is here and on the disk."""

    shard: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFailed:
    """A shard has failed too often in a row; `trouble` was the last failure."""

    shard: int
    trouble: Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBusy:
    """The server is asked again after `wait_s`."""

    status: int | None
    wait_s: float


TransferEvent = ShardComplete | ShardFailed | ServerBusy | BaseException


class TransferState:
    """State of one transfer. `changed` guards all of it except `events`, which needs no lock."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.schedule = Schedule(tuning)
        self.open: dict[int, OpenShard] = {}
        self.stopped = False
        self.changed = threading.Condition()
        self.events: queue.SimpleQueue[TransferEvent] = queue.SimpleQueue()
