"""Choose the devices to plan on, from what the drivers and the engine report."""

# The engine's list decides which devices there are and what they are called; NVML and sysfs add what the
# list does not say.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.machine.machine import MAX_DEVICES, Backend, Device, DevicesAndNotes
from launcher.machine.probe.amd import AmdCard, rocm_uuid
from launcher.machine.shared_memory import is_unclear, shares_by_size
from launcher.units import format_bytes

# How far two drivers' totals of one card may differ: CUDA leaves out the driver's reserve (1.9 % of a 3090,
# see launcher.machine.gpus), Vulkan counts its own heaps.
_TOLERANCE = 0.05

UNLISTED = "the engine lists no device, but the machine has"
_UNREADABLE = (
    "amdgpu's files in /sys/class/drm do not tell whether it has memory of its own, so it is counted as a "
    "part of the host's"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverReport:
    """The devices that the drivers report, before the engine is asked."""

    devices: tuple[Device, ...] = ()  # under the names llama.cpp would give them
    all_nvidia: tuple[Device, ...] = ()  # with those that CUDA_VISIBLE_DEVICES hides: Vulkan shows them too
    cards: tuple[AmdCard, ...] = ()
    asks_sysfs: bool = True  # Linux
    intel_driver: str | None = None  # of the integrated GPU
    notes: tuple[str, ...] = ()


def choose_devices(
    drivers: DriverReport, engine_devices: tuple[Device, ...] | None, ram_bytes: int = 0
) -> DevicesAndNotes:
    """Return the devices to plan on, and notes on how they were chosen; `ram_bytes` has the host."""
    if engine_devices is None:
        devices, notes = _one_backend(drivers.devices)
    else:
        devices, notes = _complete(drivers, engine_devices)
        if not engine_devices and drivers.devices:
            names = ", ".join(device.name for device in drivers.devices[:3])
            missing = f"{UNLISTED} {names}"
            notes = (*notes, f"{missing}: it was built without a backend for it")
    devices, one_pool = _sharing_by_size(devices, ram_bytes)
    notes = (*notes, *one_pool)
    devices, left_out = _usable_by_llama_cpp(devices)
    if len(devices) > MAX_DEVICES:
        left_out = (
            *left_out,
            f"llama.cpp takes {MAX_DEVICES} devices: {len(devices) - MAX_DEVICES} are left out",
        )
    return devices[:MAX_DEVICES], (*notes, *left_out)


def _sharing_by_size(devices: Sequence[Device], ram_bytes: int) -> DevicesAndNotes:
    """Mark devices whose total is the host's as sharing its memory, with a note on each."""
    marked: list[Device] = []
    notes: list[str] = []
    for device in devices:
        if device.shares_host_memory or not shares_by_size(device, ram_bytes):
            marked.append(device)
            continue
        marked.append(replace(device, shares_host_memory=True))
        notes.append(
            f"{device.id} ({device.name}) reports {format_bytes(device.total_bytes)}, all of the host's "
            "memory: counted as one pool with it"
        )
    return tuple(marked), tuple(notes)


def _complete(drivers: DriverReport, engine_devices: Sequence[Device]) -> DevicesAndNotes:
    """Add to the engine's devices what NVML and sysfs know of them."""
    cuda = [device for device in drivers.devices if device.backend is Backend.CUDA]
    hidden = [device for device in drivers.all_nvidia if device.uuid not in {known.uuid for known in cuda}]
    spare = {Backend.CUDA: cuda + hidden, Backend.VULKAN: list(drivers.all_nvidia)}
    cards = {backend: list(drivers.cards) for backend in (Backend.HIP, Backend.VULKAN)}
    devices: list[Device] = []
    notes: list[str] = []
    for device in engine_devices:
        match = next((known for known in spare.get(device.backend, []) if _is_same(device, known)), None)
        card = _matching_card(device, cards.get(device.backend, []))
        if match is not None:
            spare[device.backend].remove(match)
            filled, doubt = _with_nvml(device, match)
            notes += doubt
        elif card is not None:
            cards[device.backend].remove(card)
            filled = _with_card(device, card)
        elif is_unclear(device) and not drivers.cards and drivers.asks_sysfs:
            filled = replace(device, shares_host_memory=True)
            notes.append(
                f"{device.id} ({device.name}): {_UNREADABLE}; if it is its own, there are up to "
                f"{format_bytes(device.total_bytes)} more"
            )
        elif "Intel" in device.name and device.shares_host_memory:
            filled = replace(device, kernel_driver=drivers.intel_driver)
        else:
            filled = device
        devices.append(filled)
        if device.is_software:
            notes.append(
                f"{device.id} is a software GPU ({device.name}): it computes on the CPU, in the host's memory"
            )
    return tuple(devices), tuple(notes)


def _is_same(listed: Device, known: Device) -> bool:
    if listed.name != known.name:
        return False
    # each driver has its own idea of the memory of a GPU that shares the host's
    return known.shares_host_memory or _close(listed.total_bytes, known.total_bytes)


def _close(one: int, other: int) -> bool:
    return abs(one - other) <= _TOLERANCE * max(one, other)


def _with_nvml(device: Device, known: Device) -> tuple[Device, tuple[str, ...]]:
    """Add what NVML knows, and a note if the free memory casts doubt on the match by name and order."""
    filled = replace(
        device,
        shares_host_memory=known.shares_host_memory or device.shares_host_memory,
        uuid=known.uuid,
        link=known.link,
        compute_capability=known.compute_capability,
        driver=known.driver,
        display=known.display,
    )
    if device.backend is not Backend.CUDA or known.free_bytes is None or filled.shares_host_memory:
        return filled, ()
    gap = abs((device.free_bytes or 0) - known.free_bytes)
    if gap > 2 * _TOLERANCE * known.total_bytes:
        note = (
            f"{device.id} is taken to be {known.uuid} by its name, but the engine says "
            f"{format_bytes(device.free_bytes)} are free and NVML {format_bytes(known.free_bytes)}: "
            "its UUID and link may be another card's"
        )
        return filled, (note,)
    # CUDA's free memory is read with a context already open; a plan starts from NVML's, without
    return replace(filled, total_bytes=known.total_bytes, free_bytes=known.free_bytes), ()


def _matching_card(device: Device, cards: Sequence[AmdCard]) -> AmdCard | None:
    # AMD cards have a name per driver, so memory decides: a card's own; what is left is the APU
    if "AMD" not in device.name and "Radeon" not in device.name:
        return None
    for card in cards:
        if not card.is_apu and _close(device.total_bytes, card.vram_total_bytes):
            return card
    return next((card for card in cards if card.is_apu), None)


def _with_card(device: Device, card: AmdCard) -> Device:
    free = device.free_bytes
    unused = card.free_bytes(device.total_bytes)
    if card.is_apu and free is not None and unused is not None:
        free = min(free, unused)  # the driver counts all processes of the host
    return replace(
        device,
        free_bytes=free,
        shares_host_memory=card.is_apu or device.shares_host_memory,
        carve_out_bytes=min(card.carve_out_bytes, device.total_bytes),
        uuid=rocm_uuid(card),
        link=card.link,
        display=card.display,
    )


def _one_backend(devices: Sequence[Device]) -> DevicesAndNotes:
    """Return the devices of the backend with the most memory, as an engine is built for one, and notes."""
    memory: dict[Backend, int] = {}
    for device in devices:
        memory[device.backend] = memory.get(device.backend, 0) + (
            device.total_bytes * (not device.shares_host_memory)
        )
    if len(memory) < 2:
        return tuple(devices), ()
    best = max(memory, key=lambda backend: memory[backend])
    others = ", ".join(device.name for device in devices if device.backend is not best)
    own = tuple(device for device in devices if device.backend is best)
    return own, (f"an engine for {best.value} does not use {others}",)


def _usable_by_llama_cpp(devices: Sequence[Device]) -> DevicesAndNotes:
    """Choose devices as llama_prepare_model_devices (src/llama.cpp) does; return them and notes."""
    # A card that two backends show counts once, for the first of them. Integrated GPUs count only if there
    # is no other, and of one backend.
    seen: dict[str, Backend] = {}
    counts: dict[tuple[Backend, str], int] = {}
    once: list[Device] = []
    notes: list[str] = []
    for device in devices:
        name = device.name.partition(" (")[0]
        number = counts.get((device.backend, name), 0)
        counts[device.backend, name] = number + 1
        card = device.uuid or f"{name} #{number}"
        if seen.setdefault(card, device.backend) is device.backend:
            once.append(device)
        else:
            notes.append(
                f"{device.id} ({device.name}) is the same card as one of {seen[card].value}: it counts once"
            )
    own = tuple(device for device in once if not device.shares_host_memory)
    shared = [device for device in once if device.shares_host_memory]
    if own:
        notes += [
            f"{device.id} ({device.name}) shares the host's memory and is not used beside GPUs with their own"
            for device in shared
        ]
        return own, tuple(notes)
    return tuple(device for device in shared if device.backend is shared[0].backend), tuple(notes)
