"""Measure what a load takes on its devices: memory in use now, less what was in use before, as drivers report it.

Memory that other processes take or free meanwhile is in it, too: drivers tell apart devices, not processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class VramMeter(Protocol):
    """Reads bytes in use by device (`CUDA0`), without devices whose driver does not say. Neither call raises."""

    def read(self) -> Mapping[str, int]: ...

    def close(self) -> None: ...


class VramGrowth:
    """The growth during one load. Made before llama-server is started; any thread may read it."""

    def __init__(
        self, devices: Mapping[str, str], open_meter: Callable[[Mapping[str, str]], VramMeter] | None
    ) -> None:
        self._meter = open_meter(devices) if open_meter is not None and devices else None
        self._before = {} if self._meter is None else dict(self._meter.read())
        self._last: dict[str, int] = {}

    def read(self) -> Mapping[str, int]:
        """Return the growth in bytes by device; after `close`, the last one read."""
        meter = self._meter
        if meter is not None and (now := meter.read()):
            self._last = growth(self._before, now)
        return self._last

    def close(self) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.close()


def growth(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Return how much each device grew, in bytes, without those that were not read both times."""
    return {name: max(0, used - before[name]) for name, used in now.items() if name in before}
