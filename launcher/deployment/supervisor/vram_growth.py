"""What a load takes on its devices, by the drivers' own account: what is in use now, less what was before it began.

Whatever else takes or frees memory there meanwhile is in it, too: the drivers tell apart devices, not processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class VramReader(Protocol):
    """Reads bytes in use by device (`CUDA0`); what no driver tells is left out. Neither call raises."""

    def read(self) -> Mapping[str, int]: ...

    def close(self) -> None: ...


class VramGrowth:
    """One load. Made before llama-server is started; `now` may be asked by a thread."""

    def __init__(
        self, devices: Mapping[str, str], open_gauge: Callable[[Mapping[str, str]], VramReader] | None
    ) -> None:
        self._gauge = open_gauge(devices) if open_gauge is not None and devices else None
        self._before = {} if self._gauge is None else dict(self._gauge.read())
        self._last: dict[str, int] = {}

    def now(self) -> Mapping[str, int]:
        """Bytes by device; what was last seen once the gauge is closed."""
        gauge = self._gauge
        if gauge is not None and (seen := gauge.read()):
            self._last = growth(self._before, seen)
        return self._last

    def close(self) -> None:
        gauge, self._gauge = self._gauge, None
        if gauge is not None:
            gauge.close()


def growth(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """What grew by how much, in bytes; a device that was not read both times is unknown, and left out."""
    return {name: max(0, used - before[name]) for name, used in now.items() if name in before}
