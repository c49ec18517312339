"""The supervisor as a program, with what the drivers say of their memory: one small process per deployment.

python -m launcher.deployment.supervisor STATE_FILE
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from launcher.deployment.supervisor.supervisor import supervise
from launcher.deployment.supervisor.vram_growth import VramReader


def open_gauge(devices: Mapping[str, str]) -> VramReader:
    """Memory in use on these GPUs. Imported only where there are any: the supervisor stays small."""
    from launcher.machine.probe import vram_in_use  # noqa: PLC0415  see above

    return vram_in_use.DriverVramReader(devices)


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), open_gauge))
