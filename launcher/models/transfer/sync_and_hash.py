"""What follows behind the connections: putting what arrived on the disk for good, and hashing what they did not."""

from __future__ import annotations

from launcher.models.transfer.partial_file import PartialFile
from launcher.models.transfer.state import OpenShard, ShardComplete, TransferState

_SYNC_EVERY_S = 1.0


def sync_all(under_way: TransferState) -> None:
    """Every second, and when much waits for the disk, until the transfer stops. Raises OSError of the disk."""
    while True:
        with under_way.changed:
            under_way.changed.wait_for(
                lambda: under_way.stopped or under_way.board.wants_sync(), _SYNC_EVERY_S
            )
            if under_way.stopped:
                return
            opened = list(under_way.open.items())
        for shard, one in opened:
            _sync(under_way, shard, one.part)


def hash_rest(under_way: TransferState, shard: int, opened: OpenShard, generation: int) -> None:
    """Follow what is here without a gap and was not hashed as it arrived; then the shard is whole. Raises OSError of the
    disk."""
    digest, size, board = opened.digest, opened.wanted.size_bytes, under_way.board
    while True:
        with under_way.changed:
            while (
                not under_way.stopped
                and board.generation(shard) == generation
                and board.prefix(shard) <= min(digest.position, size - 1)
            ):
                under_way.changed.wait()
            if under_way.stopped:
                return
            prefix, now = board.prefix(shard), board.generation(shard)
        if now != generation:
            digest.anew()
            generation = now
        elif digest.position < prefix:
            digest.follow(prefix)
        elif prefix >= size:
            break
    _sync(under_way, shard, opened.part)
    under_way.events.put(ShardComplete(shard=shard, sha256=digest.hexdigest()))


def _sync(under_way: TransferState, shard: int, part: PartialFile) -> None:
    n_bytes = part.sync()
    if n_bytes:
        with under_way.changed:
            under_way.board.synced(shard, n_bytes)
            under_way.changed.notify_all()
