"""Numbers that decide how hard a transfer tries."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.system.network.policy import NO_DEADLINE, Policy
from launcher.units import KIB, MIB

_SHARDS, _MOST = 4, 16


def connections_for(cores: int) -> int:
    """Return two connections a core, at least one a shard, at most 16."""
    # More than 16 were not tried. Where cores are the limit, one a shard costs least, because what it reads
    # is hashed while the processor holds it: 4 GiB on 2 cores took 5.3 s with 4 connections and 5.6 s with 8
    # (medians of 7, `scripts/bench pull`).
    return min(max(_SHARDS, 2 * cores), _MOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning(Policy):
    """The numbers of one transfer."""

    connections: int = _SHARDS  # over all shards
    shards_at_once: int = _SHARDS

    # One request asks for at most a span; the journal counts in units. A killed pull fetches at most a unit
    # per connection again; after a power loss it is at most a span per connection.
    span_bytes: int = 128 * MIB
    unit_bytes: int = 8 * MIB
    # At most half a unit. 256 KiB and 1 MiB are nearly the same (4 GiB on 2 cores: 5.3 and 5.0 s).
    buffer_bytes: int = 1 * MIB

    crawl_window_s: float = 30.0
    crawl_bytes: int = 64 * KIB
    deadline_s: float = NO_DEADLINE  # a transfer goes on as long as it gets anywhere

    # So many failures in a row without worthwhile bytes end the pull: with the backoff doubling up to the
    # longest, after about a minute.
    attempts: int = 8
    unreachable_attempts: int = 8
    senseless_attempts: int = 8
    worthwhile_bytes: int = 64 * KIB
