"""Decide how much of a machine's memory a plan may use: what is free, less margins and reserves. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from launcher.errors import UsageError
from launcher.gguf.ggml import GgmlType
from launcher.machine.machine import Backend, Device, Machine
from launcher.machine.shared_memory import counts_in_ram, host_available
from launcher.plan.amounts import RAM, Amount, Basis
from launcher.plan.memory import amx
from launcher.plan.workload import Limits
from launcher.units import GIB, MIB

# llama.cpp's own fit leaves this free on every device (common/arg.cpp, --fit-target). Overhead and margin
# together are the same, so that these plans are neither bolder nor shyer than its own.
_TARGET_BYTES = 1024 * MIB

# More for a card that drives a screen: a desktop with a browser grows by about that after the probe.
_DISPLAY_BYTES = 512 * MIB

# Not a margin, but the ledger's `overhead`: middle and band of the memory that a backend takes besides
# llama.cpp's buffers. CUDA: 300-600 MiB for context, cuBLAS and graphs, from published load logs
# ("unaccounted" in llama.cpp's memory breakdown). The others are not measured; their band reaches down to
# nothing.
_OVERHEAD: dict[Backend, tuple[int, int]] = {
    Backend.CUDA: (450 * MIB, 150 * MIB),
    Backend.HIP: (450 * MIB, 150 * MIB),
    Backend.SYCL: (300 * MIB, 150 * MIB),
    Backend.VULKAN: (128 * MIB, 128 * MIB),
    Backend.METAL: (96 * MIB, 96 * MIB),
    Backend.CPU: (0, 0),
}

# Of that, what a context takes before llama.cpp asks the driver what is free, as its --fit does: an idle RTX
# 3090 shows 24124 MiB, and 23860 of them free (ollama/ollama#17482). HIP is the same code; the others state
# what is free without a context.
_CONTEXT = {Backend.CUDA: 264 * MIB, Backend.HIP: 264 * MIB}

# llama-server itself: code, vocabulary, HTTP, graphs. Measured on the CPU engine after two prompts of 1200
# tokens: RssAnon 21 MiB above the buffers of its log, RssFile 16 MiB, with a vocabulary of 49k tokens. One
# of 164k tokens with its merges takes about 100 MiB more.
_ENGINE_HOST = (96 * MIB, 96 * MIB)

# RAM that a device's context takes in the process. CUDA: 114 MiB of resident memory more with one context
# than without, kernels loaded as they are needed (pytorch/pytorch#113326: RTX 3090, driver 515, CUDA 11.8).
# No number was found for a second GPU, which is counted the same, nor for the other backends, which are not
# counted.
_DRIVER_HOST: dict[Backend, tuple[int, int]] = {Backend.CUDA: (128 * MIB, 128 * MIB)}

# Types that ggml lays out anew for the CPU (ggml/src/ggml-cpu/repack.cpp,
# ggml_repack_get_optimal_repack_type), with the usual instruction sets of each family: AVX2 or AVX-512,
# NEON with dot products.
_X86_REPACKS = frozenset(GgmlType[name] for name in ("Q4_0", "Q4_K", "Q2_K", "IQ4_NL", "MXFP4"))
_ARM_REPACKS = frozenset(
    GgmlType[name] for name in ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4", "Q1_0")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBudget:
    device: Device
    n_bytes: int
    overhead: Amount
    host_overhead: Amount  # RAM that its driver takes
    margin_bytes: int
    # what it uses beyond its carve-out, `host_bytes` lacks; not so if the memory is that of the host of a
    # container, which does not pay for it
    in_ram: bool = False

    def taken_bytes(self, used_bytes: int) -> int:
        """Return how much of the host's memory the device takes when it uses so much."""
        return max(used_bytes - self.device.carve_out_bytes, 0) if self.device.lies_in_ram else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    host_bytes: int  # the pool of RAM, including that of devices in it
    ram_reserve_bytes: int
    max_ram_bytes: int | None
    # Types whose matrices the CPU keeps in its own layout while no device is in use (src/llama-model.cpp,
    # make_cpu_buft_list).
    repacked_types: frozenset[GgmlType]
    host_overhead: Amount
    devices: tuple[DeviceBudget, ...]
    # for RAM and the devices in the host's memory together, where a container's RAM is a part of it
    pool_bytes: int | None = None
    amx: bool = False  # the CPU has it, and keeps matrices in its layouts in the same case

    def host_left(self, used: Iterable[tuple[DeviceBudget, int]]) -> int:
        """Return the RAM that is left for the host itself when devices use so many bytes each."""
        taken = [(budget.in_ram, budget.taken_bytes(n_bytes)) for budget, n_bytes in used]
        left = self.host_bytes - sum(n_bytes for in_ram, n_bytes in taken if in_ram)
        if self.pool_bytes is None:
            return left
        return min(left, self.pool_bytes - sum(n_bytes for _, n_bytes in taken))


def as_in_file(budgets: Budgets) -> Budgets:
    """Return the budgets of a host that keeps weights as they are in the file (--no-repack)."""
    return replace(budgets, repacked_types=frozenset(), amx=False)


def _repacked_types(machine: Machine) -> frozenset[GgmlType]:
    if amx.has_amx(machine.cpu):
        return _X86_REPACKS | amx.TYPES
    return _X86_REPACKS if machine.arch in {"x86_64", "AMD64"} else _ARM_REPACKS


# A key of `Limits.reserve` for every device, besides a device's id and RAM.
_EVERY_DEVICE = ""


def read_budgets(machine: Machine, limits: Limits | None = None) -> Budgets:
    """Return the budgets for one deployment. Raises UsageError for limits that name an unknown device."""
    limits = limits or Limits()
    devices = _chosen(machine, limits)
    reserves = dict(limits.reserve)
    reserve = reserves.get(RAM, ram_reserve(machine))
    host = max(machine.ram_available_bytes - reserve, 0)
    if limits.max_ram_bytes is not None:
        host = min(host, limits.max_ram_bytes)
    in_ram = {device.id for device in devices if counts_in_ram(machine, device)}
    pool = None
    if any(device.lies_in_ram and device.id not in in_ram for device in devices):
        whole = host_available(machine)
        pool = None if whole is None else max(whole - ram_reserve(replace(machine, ram_limit_bytes=None)), 0)
    margins = {
        device.id: _margin(device, reserves.get(device.id, reserves.get(_EVERY_DEVICE))) for device in devices
    }
    return Budgets(
        host_bytes=host,
        ram_reserve_bytes=reserve,
        max_ram_bytes=limits.max_ram_bytes,
        repacked_types=_repacked_types(machine),
        amx=amx.has_amx(machine.cpu),
        host_overhead=_estimate(*_ENGINE_HOST),
        devices=tuple(
            DeviceBudget(
                device=device,
                n_bytes=_device_bytes(device, host if device.id in in_ram else pool, margins[device.id]),
                overhead=_estimate(*_OVERHEAD[device.backend]),
                host_overhead=_estimate(*_driver_host(device)),
                margin_bytes=margins[device.id],
                in_ram=device.id in in_ram,
            )
            for device in devices
        ),
        pool_bytes=pool,
    )


def _chosen(machine: Machine, limits: Limits) -> list[Device]:
    """Return the devices that `limits` names, by id or by number in llama.cpp's order."""
    devices = [device for device in machine.devices if device.peer or device.backend is not Backend.CPU]
    ids = [device.id for device in devices]
    known = f"there {'is' if len(ids) == 1 else 'are'} {', '.join(ids)}" if ids else "there is no GPU"
    for name, _ in limits.reserve:
        if name not in {_EVERY_DEVICE, RAM, *ids}:
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
    """Return the RAM to leave to others: a sixteenth, at least 512 MiB and at most 8 GiB."""
    # MemAvailable counts what others hold already. The reserve is for their growth and for page tables, and
    # neither needs more than 8 GiB on a large host.
    least = 512 * MIB
    if machine.ram_limit_bytes is not None:  # a container of 800 MiB has few others in it
        least = min(least, machine.ram_bytes // 8)
    return min(8 * GIB, max(least, machine.ram_bytes // 16))


def _margin(device: Device, reserve: int | None) -> int:
    if reserve is None:
        return device_margin(device)
    # As in llama.cpp's --fit-target, a requested reserve is all that is left free, the backend's overhead
    # included.
    middle, band = _OVERHEAD[device.backend]
    return max(reserve - middle - band, 0)


def device_margin(device: Device) -> int:
    """Return the memory to leave free on a device, besides its backend's overhead."""
    middle, band = _OVERHEAD[device.backend]
    display = _DISPLAY_BYTES if device.display else 0
    return _TARGET_BYTES - middle - band + display


def free_bytes(device: Device) -> int:
    """Return a device's free memory; if unknown (a profile), it counts as idle."""
    if device.free_bytes is not None:
        return device.free_bytes
    # The driver has 2 % or 512 MiB: 24 GiB cards report 300-500 MiB used when nothing runs.
    return device.total_bytes - max(512 * MIB, device.total_bytes // 50)


def as_reported(device: Device) -> Device:
    """Return the device with the memory that it tells llama.cpp: of a processor on a peer, all is free."""
    # ggml_backend_cpu_device_get_memory (ggml-cpu.cpp), through the peer's ggml-rpc-server
    if device.peer is None or device.backend is not Backend.CPU:
        return device
    return replace(device, free_bytes=device.total_bytes)


def free_within(device: Device) -> int:
    """Return the free memory that a process with a context on the device is told of."""
    context = 0 if device.shares_host_memory else _CONTEXT.get(device.backend, 0)
    return max(free_bytes(as_reported(device)) - context, 0)


def _device_bytes(device: Device, pool_bytes: int | None, margin: int) -> int:
    free = free_bytes(device)
    if device.lies_in_ram and pool_bytes is not None:  # no more than the host has
        free = min(free, pool_bytes + device.carve_out_bytes)
    return max(free - margin, 0)


def _driver_host(device: Device) -> tuple[int, int]:
    # that of a peer's device takes the peer's RAM
    return _DRIVER_HOST.get(device.backend, (0, 0)) if device.peer is None else (0, 0)


def _estimate(middle: int, band: int) -> Amount:
    return Amount(n_bytes=middle, basis=Basis.ESTIMATED, band_bytes=band)
