"""What the threads of a transfer share."""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from dataclasses import dataclass

from launcher.models.transfer.digest import Digest
from launcher.models.transfer.download import Download
from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.schedule import Schedule
from launcher.models.transfer.tuning import Tuning
from launcher.system.network.trouble import Trouble


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
    """A whole shard, on the disk."""

    shard: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFailed:
    """A shard that failed too often in a row."""

    shard: int
    trouble: Trouble  # the last failure


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBusy:
    """A wait before the server is asked again."""

    status: int | None
    wait_s: float


TransferEvent = ShardComplete | ShardFailed | ServerBusy | BaseException


class TransferState:
    """State of one transfer."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.schedule = Schedule(tuning)
        self.open: dict[int, OpenShard] = {}
        self.stopped = False
        self.changed = threading.Condition()  # guards all of this except `events`, which needs no lock
        self.events: queue.SimpleQueue[TransferEvent] = queue.SimpleQueue()
