"""Read from sysfs which kernel driver Intel's integrated GPU has: i915 or xe."""

from __future__ import annotations

import os
from pathlib import Path

from launcher.machine.probe.proc_files import KernelFiles

_DRM = "/sys/class/drm"
_VENDOR = 0x8086
_INTEGRATED = "0000:00:02.0"  # its place on the PCI bus, since its first days


def read_intel_driver(files: KernelFiles) -> str | None:
    """Return the driver's name; None if there is no such GPU, or sysfs does not tell."""
    drivers: dict[str, str] = {}  # by place on the bus
    for name in files.names(_DRM, r"card\d+"):
        folder = f"{_DRM}/{name}/device"
        link = files.at(f"{folder}/driver")
        if files.number(f"{folder}/vendor") == _VENDOR and link.exists():
            place = Path(os.path.realpath(files.at(folder))).name
            drivers[place] = Path(os.path.realpath(link)).name
    return drivers.get(_INTEGRATED)
