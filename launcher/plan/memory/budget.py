"""How much of a machine a plan may use: free memory, minus what is kept back.

Every device's margin and every reserve is chosen here, with its reason. What llama.cpp's backends take for
themselves is not a margin: it is a row of the ledger (`overhead_of`).
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device, Machine
from launcher.plan.amounts import RAM, Amount, Basis
from launcher.plan.workload import Limits
from launcher.units import GIB, MIB

_TARGET_BYTES = 1024 * MIB
"""What llama.cpp's own fit leaves free on every device (common/arg.cpp, --fit-target): backend overhead and
margin together stay at it, so that our plans are neither bolder nor shyer than its own."""

_DISPLAY_BYTES = 512 * MIB
"""Kept besides on a card that drives a screen: a desktop with a browser grows by about that after the probe."""

_OVERHEAD: dict[Backend, tuple[int, int]] = {
    Backend.CUDA: (450 * MIB, 150 * MIB),
    Backend.HIP: (450 * MIB, 150 * MIB),
    Backend.SYCL: (300 * MIB, 150 * MIB),
    Backend.VULKAN: (128 * MIB, 128 * MIB),
    Backend.METAL: (96 * MIB, 96 * MIB),
    Backend.CPU: (0, 0),
}
"""Middle and band of what a backend takes besides llama.cpp's buffers. CUDA: 300-600 MiB for context, cuBLAS and
graphs, from published load logs ("unaccounted" in llama.cpp's memory breakdown). The others are not measured;
their band reaches down to nothing."""

_ENGINE_HOST = (96 * MIB, 96 * MIB)
"""llama-server itself: code, vocabulary, HTTP, graphs. Measured on the CPU engine after two prompts of 1200 tokens:
RssAnon 21 MiB above the buffers of its log, RssFile 16 MiB, with a vocabulary of 49k tokens; one of 164k with its
merges takes about 100 MiB more."""


_DRIVER_HOST: dict[Backend, tuple[int, int]] = {Backend.CUDA: (128 * MIB, 128 * MIB)}
"""RAM that a device's context takes in the process. CUDA: 114 MiB of resident memory more with one context than
without, kernels loaded as they are needed (pytorch/pytorch#113326: RTX 3090, driver 515, CUDA 11.8); nobody published
a second GPU's part, which is counted as much again. Of the other backends no number was found: they are not counted."""

_X86_REPACKS = frozenset(GgmlType[name] for name in ("Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "MXFP4"))
_ARM_REPACKS = frozenset(
    GgmlType[name] for name in ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4", "Q1_0")
)
"""Types that ggml lays out anew for the CPU (ggml/src/ggml-cpu/repack.cpp, ggml_repack_get_optimal_repack_type), with
the usual instruction sets of each family: AVX2 or AVX-512, NEON with dot products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBudget:
    """What one device gives, and what its driver takes of the host's memory. What one that shares the host's memory uses, beyond its carve-out, the host lacks."""

    device: Device
    n_bytes: int
    overhead: Amount
    host_overhead: Amount
    margin_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """`host_bytes` is the pool of RAM, shared devices included. `repacked_types` are those whose matrices the CPU
    keeps in a layout of its own, when no device is in use (src/llama-model.cpp, make_cpu_buft_list)."""

    host_bytes: int
    ram_reserve_bytes: int
    max_ram_bytes: int | None
    repacked_types: frozenset[GgmlType]
    host_overhead: Amount
    devices: tuple[DeviceBudget, ...]


ANYWHERE = ""
"""Key of `Limits.reserve` for every device, besides a device's id and RAM."""


def read_budgets(machine: Machine, limits: Limits | None = None) -> Budgets:
    """What this machine gives to one deployment: `host_bytes` is what is available less the reserve.

    Raises UsageError for limits that name a device the machine does not have.
    """
    limits = limits or Limits()
    devices = _chosen(machine, limits)
    reserves = dict(limits.reserve)
    kept = reserves.get(RAM, ram_reserve(machine))
    host = max(machine.ram_available_bytes - kept, 0)
    if limits.max_ram_bytes is not None:
        host = min(host, limits.max_ram_bytes)
    margins = {
        device.id: _margin(device, reserves.get(device.id, reserves.get(ANYWHERE))) for device in devices
    }
    return Budgets(
        host_bytes=host,
        ram_reserve_bytes=kept,
        max_ram_bytes=limits.max_ram_bytes,
        repacked_types=_X86_REPACKS if machine.arch in {"x86_64", "AMD64"} else _ARM_REPACKS,
        host_overhead=_estimate(*_ENGINE_HOST),
        devices=tuple(
            DeviceBudget(
                device=device,
                n_bytes=_device_bytes(device, host, margins[device.id]),
                overhead=_estimate(*_OVERHEAD[device.backend]),
                host_overhead=_estimate(*_DRIVER_HOST.get(device.backend, (0, 0))),
                margin_bytes=margins[device.id],
            )
            for device in devices
        ),
    )


def _chosen(machine: Machine, limits: Limits) -> list[Device]:
    """The devices that may be used, by id or by their number in llama.cpp's order."""
    devices = [device for device in machine.devices if device.backend is not Backend.CPU]
    ids = [device.id for device in devices]
    known = f"there {'is' if len(ids) == 1 else 'are'} {', '.join(ids)}" if ids else "there is no GPU"
    for name, _ in limits.reserve:
        if name not in {ANYWHERE, RAM, *ids}:
            raise UsageError(
                f"--reserve names {name}, and {known}", hint="--reserve 2G, or CUDA0=2G, or ram=16G"
            )
    if limits.gpus is None:
        return devices
    wanted = [ids[int(name)] if name.isdecimal() and int(name) < len(ids) else name for name in limits.gpus]
    for name in wanted:
        if name not in ids:
            raise UsageError(f"--gpus names {name}, and {known}", hint="--gpus with ids or numbers, or none")
    return [device for device in devices if device.id in wanted]


def ram_reserve(machine: Machine) -> int:
    """RAM left to everyone else: a sixteenth of what there is, at least 512 MiB and at most 8 GiB.

    MemAvailable already counts what others hold; the reserve is for their growth and for page tables, and
    neither needs more than 8 GiB on a large host.
    """
    limit = machine.ram_limit_bytes
    total = machine.ram_total_bytes if limit is None else min(machine.ram_total_bytes, limit)
    return min(8 * GIB, max(512 * MIB, total // 16))


def _margin(device: Device, reserve: int | None) -> int:
    """A reserve that was asked for is what llama.cpp's --fit-target means: all that is left free, the backend's
    own overhead included."""
    if reserve is None:
        return device_margin(device)
    middle, band = _OVERHEAD[device.backend]
    return max(reserve - middle - band, 0)


def device_margin(device: Device) -> int:
    """Memory left free on a device, besides its backend's overhead."""
    middle, band = _OVERHEAD[device.backend]
    display = _DISPLAY_BYTES if device.display else 0
    return _TARGET_BYTES - middle - band + display


def free_bytes(device: Device) -> int:
    """A device whose free memory is unknown (a profile) is taken as idle, with 2 % or 512 MiB gone to the driver
    (24 GiB cards report 300-500 MiB used when nothing runs)."""
    if device.free_bytes is not None:
        return device.free_bytes
    return device.total_bytes - max(512 * MIB, device.total_bytes // 50)


def _device_bytes(device: Device, host_bytes: int, margin: int) -> int:
    """Free memory minus margin, and no more than the host has where the memory is the host's."""
    free = free_bytes(device)
    if device.shares_host_memory:
        free = min(free, host_bytes + device.carve_out_bytes)
    return max(free - margin, 0)


def _estimate(middle: int, band: int) -> Amount:
    return Amount(n_bytes=middle, basis=Basis.ESTIMATED, band_bytes=band)
