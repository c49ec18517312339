"""How hard a transfer tries: every number that decides about it, as data."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.units import KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """`connections` over all shards, of which `shards_at_once` are under way. One request asks for at most
    `span_bytes`; the journal counts in `unit_bytes`, so a killed pull fetches at most a unit per connection again,
    and after a power loss at most a span per connection. `buffer_bytes` is at most a unit; 64 KiB cost a third more
    time, 512 KiB save nothing.

    Silence of `patience_s` ends a connection, and so does less than `crawl_bytes` in `crawl_window_s`. `attempts`
    failures in a row without `worthwhile_bytes` end the pull: with the backoff doubling from `backoff_s` to
    `longest_backoff_s` that is after about a minute. A server may ask for a wait of up to `longest_wait_s`.
    """

    connections: int = 8
    shards_at_once: int = 4
    span_bytes: int = 64 * MIB
    unit_bytes: int = 8 * MIB
    buffer_bytes: int = 256 * KIB
    patience_s: float = 10.0
    crawl_window_s: float = 30.0
    crawl_bytes: int = 64 * KIB
    attempts: int = 8
    link_attempts: int = 3
    worthwhile_bytes: int = 64 * KIB
    backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    longest_wait_s: float = 60.0
