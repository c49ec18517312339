"""Read what a program that was built elsewhere needs to find on this machine."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from pathlib import Path

from launcher.engine.host_cpu import host_cpu
from launcher.engine.sources.fit import HostFacts, NvidiaCard, Version
from launcher.machine.machine import Backend
from launcher.machine.probe.probe import Hardware
from launcher.units import MIB

_ARCHES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
_GLIBCXX = re.compile(rb"GLIBCXX_3\.4\.([0-9]{1,3})\0")
_MOST_LIBRARY_BYTES = 64 * MIB
_PCI = Path("/sys/bus/pci/devices")
_INTEL = 0x8086
_DISPLAY = 0x03


def read_host_facts(hardware: Hardware) -> HostFacts:
    """Combine what the probe found with this system's C and C++ libraries."""
    drivers = hardware.drivers
    arch = platform.machine().lower()
    return HostFacts(
        system="darwin" if sys.platform == "darwin" else "linux",
        arch=_ARCHES.get(arch, arch),
        glibc=_glibc(),
        libstdcxx=_libstdcxx(),
        nvidia=tuple(
            NvidiaCard(
                driver=parse_version(device.driver), capability=parse_version(device.compute_capability)
            )
            for device in drivers.all_nvidia
        ),
        has_amd=bool(drivers.cards) or any(device.backend is Backend.HIP for device in drivers.devices),
        has_intel=_has_intel_card(_PCI),
        rocm=_rocm(),
        has_vulkan=_loads("libvulkan.so.1"),
        cpu_flags=host_cpu().flags,
    )


def parse_version(text: str | None) -> Version | None:
    """Parse the first two numbers of a version: `580.65.06` -> (580, 65); `8.9` -> (8, 9)."""
    match = re.match(r"([0-9]{1,5})(?:\.([0-9]{1,5}))?", text or "")
    return (int(match[1]), int(match[2] or 0)) if match else None


def _glibc() -> Version | None:
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION")  # `glibc 2.36`
    except (ValueError, OSError):  # another C library does not know the name
        return None
    return parse_version(said.removeprefix("glibc ")) if said and said.startswith("glibc ") else None


def _libstdcxx() -> int | None:
    """Return N of the newest GLIBCXX_3.4.N that this system's libstdc++ has."""
    if not _loads("libstdc++.so.6"):
        return None
    try:
        maps = Path("/proc/self/maps").read_text()
        path = next(line.split(maxsplit=5)[5] for line in maps.splitlines() if "/libstdc++.so.6" in line)
        with Path(path).open("rb") as file:
            return max(
                (int(number) for number in _GLIBCXX.findall(file.read(_MOST_LIBRARY_BYTES))), default=None
            )
    except (OSError, StopIteration, IndexError):
        return None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _rocm() -> Version | None:
    for root in (os.environ.get("ROCM_PATH"), "/opt/rocm"):
        if root:
            try:
                return parse_version((Path(root) / ".info/version").read_text()[:100])
            except (OSError, UnicodeDecodeError):
                continue
    return None


def _has_intel_card(folder: Path) -> bool:
    """Tell if there is a GPU of Intel's on a bus of its own; those in a processor are on bus 00."""
    try:
        devices = [entry for entry in folder.iterdir() if not re.match(r"[0-9a-f]{4}:00:", entry.name)]
    except OSError:
        return False
    return any(
        _number(device / "vendor") == _INTEL and _number(device / "class") >> 16 == _DISPLAY
        for device in devices
    )


def _number(path: Path) -> int:
    try:
        return int(path.read_text()[:20], 0)
    except (OSError, ValueError):
        return 0
