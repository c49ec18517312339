"""The supervisor as a program, with what the drivers say of their memory: one small process per deployment.

python -m launcher.supervise STATE_FILE
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from launcher.engine.supervisor import supervise
from launcher.engine.taken import Gauge


def open_gauge(devices: Mapping[str, str]) -> Gauge:
    """Memory in use on these GPUs. Imported only where there are any: the supervisor stays small."""
    from launcher.probe import gauge  # noqa: PLC0415  see above

    return gauge.Gauge(devices)


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), open_gauge))
