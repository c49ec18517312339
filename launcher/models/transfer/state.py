"""What the threads of a transfer share: the board, the shards that are open, and what the calling thread is told."""

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
    """A shard that is being fetched. `held` is its lock, `link` where redirects led."""

    wanted: Download
    part: PartialFile
    held: ExitStack
    digest: Digest
    link: str | None = None
    retried: bool = False
    knows_version: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardComplete:
    """All of a shard is here and on the disk."""

    shard: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFailed:
    """A shard's last failure in a row."""

    shard: int
    trouble: Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBusy:
    """The server is asked again after `wait_s`."""

    status: int | None
    wait_s: float


TransferEvent = ShardComplete | ShardFailed | ServerBusy | BaseException


class TransferState:
    """`changed` guards the board, `open`, the fields of what is open, and `stopped`; `events` need no lock."""

    def __init__(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.board = Schedule(tuning)
        self.open: dict[int, OpenShard] = {}
        self.stopped = False
        self.changed = threading.Condition()
        self.events: queue.SimpleQueue[TransferEvent] = queue.SimpleQueue()
