"""Sync what arrived, and hash what was not hashed on arrival."""

from __future__ import annotations

from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.state import OpenShard, ShardComplete, TransferState

_SYNC_EVERY_S = 1.0


def sync_all(state: TransferState) -> None:
    """Sync every second, and when much waits for the disk. Raises OSError."""
    while True:
        with state.changed:
            state.changed.wait_for(lambda: state.stopped or state.schedule.wants_sync(), _SYNC_EVERY_S)
            if state.stopped:
                return
            shards = list(state.open.items())
        for shard, opened in shards:
            _sync(state, shard, opened.partial_file)


def hash_rest(state: TransferState, shard: int, opened: OpenShard, generation: int) -> None:
    """Hash, until the shard is complete, what was not hashed on arrival. Raises OSError of the disk."""
    digest, size, schedule = opened.digest, opened.download.size_bytes, state.schedule
    while True:
        with state.changed:
            while (
                not state.stopped
                and schedule.generation(shard) == generation
                and schedule.prefix(shard) <= min(digest.position, size - 1)
            ):
                state.changed.wait()
            if state.stopped:
                return
            prefix, now = schedule.prefix(shard), schedule.generation(shard)
        if now != generation:  # its bytes are fetched once more
            digest.restart()
            generation = now
        elif digest.position < prefix:
            digest.follow(prefix)
        elif prefix >= size:
            break
    _sync(state, shard, opened.partial_file)
    state.events.put(ShardComplete(shard=shard, sha256=digest.hexdigest()))


def _sync(state: TransferState, shard: int, partial_file: PartialFile) -> None:
    n_bytes = partial_file.sync()
    if n_bytes:
        with state.changed:
            state.schedule.synced(shard, n_bytes)
            state.changed.notify_all()
