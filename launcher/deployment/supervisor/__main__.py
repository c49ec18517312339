"""Run a supervisor: python -m launcher.deployment.supervisor STATE_FILE."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from launcher.deployment.supervisor.take_up import supervise
from launcher.deployment.supervisor.vram_growth import VramMeter


def open_vram_meter(devices: Mapping[str, str]) -> VramMeter:
    # Imported only if there are any: the supervisor stays small.
    from launcher.machine.probe import vram_in_use  # noqa: PLC0415

    return vram_in_use.DriverVramReader(devices)


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), open_vram_meter))
