"""Read Apple silicon: one pool of memory, of which Metal lets the GPU use a part."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from launcher.machine.gpus import METAL_SHARE_NOTE, metal_working_set
from launcher.machine.machine import Backend, Device, DevicesAndNotes
from launcher.system.json_object import parse_json
from launcher.units import MIB

_PATIENCE_S = 10  # system_profiler takes under a second; a hung one must not hang the probe


def read_sysctl() -> Mapping[str, str]:
    """Read the `hw`, `machdep.cpu` and `iogpu` values of macOS; empty without a sysctl program."""
    return parse_sysctl(_output(["sysctl", "hw", "machdep.cpu", "iogpu"]))


def read_apple(sysctl: Mapping[str, str], free_bytes: int) -> DevicesAndNotes:
    displays = _output(["system_profiler", "SPDisplaysDataType", "-json"])
    return apple_devices(sysctl, parse_gpu_name(displays), free_bytes)


def apple_devices(sysctl: Mapping[str, str], gpu_name: str | None, free_bytes: int) -> DevicesAndNotes:
    """Return the Metal device and notes; none if the memory is unknown or the chip is not Apple's.

    `free_bytes` are available on the host.
    """
    memsize = sysctl.get("hw.memsize", "")
    if not memsize.isdigit() or sysctl.get("hw.optional.arm64") != "1":
        return (), ()
    wired = sysctl.get("iogpu.wired_limit_mb", "")
    # exact if it is set; 0 is the system's default, which only Metal knows: an estimate, with a note
    # exact if it is set; 0 is the system's default, which only Metal knows: an estimate, with a note
    is_set = wired.isdigit() and int(wired) > 0
    total = int(wired) * MIB if is_set else metal_working_set(int(memsize))
    device = Device(
        id="MTL0",
        backend=Backend.METAL,
        name=gpu_name or sysctl.get("machdep.cpu.brand_string") or "Apple GPU",
        total_bytes=total,
        free_bytes=min(total, free_bytes),
        shares_host_memory=True,
    )
    return (device,), () if is_set else (f"MTL0: {METAL_SHARE_NOTE}; the engine's own list is exact",)


def parse_sysctl(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.]+): (.*)$", text, re.MULTILINE))


def parse_gpu_name(text: str) -> str | None:
    """Return the first GPU in `system_profiler SPDisplaysDataType -json`; None for other text."""
    try:
        cards = parse_json(text)["SPDisplaysDataType"]
        name = cards[0].get("sppci_model") or cards[0]["_name"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return name if isinstance(name, str) and name else None


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
