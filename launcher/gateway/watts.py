"""Find out what this machine may draw: the power limits of its GPUs and processors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pynvml

from launcher.gateway.cost import Figure
from launcher.system.small_files import read_small_text

_RAPL = Path("/sys/class/powercap")
_MICRO, _MILLI = 1e6, 1e3


def read_watts(rapl: Path = _RAPL) -> Figure | None:
    """Return the sum of what NVML and RAPL set as limits, None if neither says one."""
    gpus, processors = _nvml_watts(), _rapl_watts(rapl)
    parts = [
        *([f"{gpus:.0f} W limit of GPUs, NVML"] if gpus else []),
        *([f"{processors:.0f} W limit of processors, RAPL"] if processors else []),
    ]
    return Figure(value=gpus + processors, source=f"{' + '.join(parts)}: at most") if parts else None


def _rapl_watts(rapl: Path) -> float:
    total = 0.0
    with contextlib.suppress(OSError):
        for zone in sorted(rapl.glob("intel-rapl:*")):
            if zone.name.count(":") == 1:  # a package; the zones inside it are part of it
                with contextlib.suppress(OSError, ValueError):
                    total += int(read_small_text(zone / "constraint_0_power_limit_uw")) / _MICRO
    return total


def _nvml_watts() -> float:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0.0
    total = 0.0
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            with contextlib.suppress(pynvml.NVMLError):
                total += pynvml.nvmlDeviceGetEnforcedPowerLimit(device) / _MILLI
    except pynvml.NVMLError:
        pass
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return total
