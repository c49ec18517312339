"""How hard a transfer tries: every number that decides about it, as data."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.units import KIB, MIB

_SHARDS, _MOST = 4, 16


def connections_for(cores: int) -> int:
    """Two a core, from one for each of the shards at once to 16; more were not tried. Where cores are the limit, one a
    shard costs least, because what it reads is hashed while the processor holds it: 4 GiB on 2 cores took 5.3 s with 4
    connections and 5.6 s with 8 (medians of 7, `scripts/bench pull`)."""
    return min(max(_SHARDS, 2 * cores), _MOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """`connections` over all shards, of which `shards_at_once` are under way. One request asks for at most
    `span_bytes`; the journal counts in `unit_bytes`, so a killed pull fetches at most a unit per connection again,
    and after a power loss at most a span per connection. `buffer_bytes` is at most half a unit; between 256 KiB and
    1 MiB there is little to choose (4 GiB on 2 cores: 5.3 and 5.0 s).

    Silence of `patience_s` ends a connection, and so does less than `crawl_bytes` in `crawl_window_s`, or a single read
    that takes as long. `attempts`
    failures in a row without `worthwhile_bytes` end the pull: with the backoff doubling from `backoff_s` to
    `longest_backoff_s` that is after about a minute. A server may ask for a wait of up to `longest_wait_s`.
    """

    connections: int = _SHARDS
    shards_at_once: int = _SHARDS
    span_bytes: int = 128 * MIB
    unit_bytes: int = 8 * MIB
    buffer_bytes: int = 1 * MIB
    patience_s: float = 10.0
    crawl_window_s: float = 30.0
    crawl_bytes: int = 64 * KIB
    attempts: int = 8
    link_attempts: int = 3
    worthwhile_bytes: int = 64 * KIB
    backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    longest_wait_s: float = 60.0
