"""Measure the GPU memory a load takes, as drivers report it: for devices, not processes.

What other processes take meanwhile is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class VramMeter(Protocol):
    """Reads bytes in use by device (`CUDA0`), where the driver says; never raises."""

    def read(self) -> Mapping[str, int]: ...

    def close(self) -> None: ...


class VramGrowth:
    """The growth since before llama-server was started; any thread may read it."""

    def __init__(
        self, devices: Mapping[str, str], open_meter: Callable[[Mapping[str, str]], VramMeter] | None
    ) -> None:
        self._meter = open_meter(devices) if open_meter is not None and devices else None
        self._before = {} if self._meter is None else dict(self._meter.read())
        self._last: dict[str, int] = {}

    def read(self) -> Mapping[str, int]:
        """Return bytes by device; after `close`, the last ones read."""
        meter = self._meter
        if meter is not None and (now := meter.read()):
            self._last = growth(self._before, now)
        return self._last

    def close(self) -> None:
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.close()


def growth(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {name: max(0, used - before[name]) for name, used in now.items() if name in before}
