"""Choose which replica of a model answers: one that has read the beginning, or the one with least work. Pure.

An engine keeps what it has read of a conversation, and reads only what is new of it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# A replica that knows the beginning is chosen while it has no more than so many requests a slot above the
# least: half the slots, so that one popular beginning (a system's prompt) does not leave the others idle.
_MORE_WORK = 0.5
_LENGTHS = tuple(512 << step for step in range(7))  # bytes of a beginning of which is known who read it
_MOST_KEPT = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    name: str
    work: float  # requests that it has or that wait for it, a slot
    is_ready: bool = True  # False: it is being started again
    is_draining: bool = False  # it takes nothing new while another can


def choose_replica(
    replicas: Sequence[Replica], knows: str | None = None, tried: Collection[str] = ()
) -> str | None:
    """Return the replica to ask; `knows` has read the request's beginning. None where there is none.

    Who has been asked for this request in vain comes last, and before it who drains or does not answer.
    """
    if not replicas:
        return None

    def rank(replica: Replica) -> tuple[bool, bool, bool, float, str]:
        is_tried = replica.name in tried
        return (is_tried, not replica.is_ready, replica.is_draining, replica.work, replica.name)

    best = min(replicas, key=rank)
    known = next((replica for replica in replicas if replica.name == knows), None)
    if known is not None and rank(known)[:3] == rank(best)[:3] and known.work <= best.work + _MORE_WORK:
        return known.name
    return best.name


class Readers:
    """Who has read which beginnings: the last ones, by digest."""

    def __init__(self, most: int = _MOST_KEPT) -> None:
        self._most = most
        self._by_digest: OrderedDict[bytes, str] = OrderedDict()

    def find(self, model: str, head: bytes) -> str | None:
        """Return the replica that has read the longest beginning of the request."""
        found = (self._by_digest.get(digest) for digest in reversed(_digests(model, head)))
        return next((name for name in found if name is not None), None)

    def note(self, model: str, head: bytes, replica: str) -> None:
        for digest in _digests(model, head):
            self._by_digest[digest] = replica
            self._by_digest.move_to_end(digest)
        while len(self._by_digest) > self._most:
            self._by_digest.popitem(last=False)


def _digests(model: str, head: bytes) -> list[bytes]:
    """Return a digest for each length up to that of `head`, the shortest first."""
    so_far = hashlib.blake2b(model.encode() + b"\0", digest_size=12)
    digests, begin = [], 0
    for length in _LENGTHS:
        if length > len(head):
            break
        so_far.update(memoryview(head)[begin:length])
        digests.append(so_far.copy().digest())
        begin = length
    return digests
