"""Look at the whole machine: ask each probe, and put their answers together."""

# A probe that fails leaves a sentence in `Machine.notes`, never an exception.

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.machine.machine import Backend, Device, Filesystem, Machine
from launcher.machine.probe.amd import amd_devices, note_gtt_limit, read_cards
from launcher.machine.probe.apple import read_apple, read_sysctl
from launcher.machine.probe.devices import DriverReport, choose_devices
from launcher.machine.probe.host import Host, read_host, read_store
from launcher.machine.probe.intel import read_intel_driver
from launcher.machine.probe.nvidia import CUDA_VARIABLES, cuda_devices
from launcher.machine.probe.nvml import read_nvidia
from launcher.machine.probe.proc_files import KernelFiles
from launcher.machine.shared_memory import gpu_nodes
from launcher.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Everything read from this machine except the engine's list of devices."""

    host: Host
    drivers: DriverReport
    store: Filesystem | None
    store_notes: tuple[str, ...]


def read_hardware(store: Path, env: Mapping[str, str], files: KernelFiles | None = None) -> Hardware:
    """Look at this machine once; `store`, where models go, need not exist."""
    files = files or KernelFiles()
    host = read_host(files)
    filesystem, store_notes = read_store(store, files)
    return Hardware(
        host=host,
        drivers=_read_drivers(files, host, env),  # some variables of `env` hide devices
        store=filesystem,
        store_notes=store_notes,
    )


def machine_of(hardware: Hardware, engine_devices: tuple[Device, ...] | None) -> Machine:
    """Combine the hardware with the engine's device list (`parse_device_list`), None without an engine."""
    host, drivers = hardware.host, hardware.drivers
    devices, device_notes = choose_devices(drivers, engine_devices, host.ram_total_bytes)
    host = _without_gpu_memory(host, (*drivers.all_nvidia, *devices))
    return Machine(
        os=sys.platform,
        arch=platform.machine(),
        cpu=host.cpu,
        ram_total_bytes=host.ram_total_bytes,
        ram_available_bytes=host.ram_available_bytes,
        ram_limit_bytes=host.ram_limit_bytes,
        host_available_bytes=host.host_available_bytes,
        nodes=host.nodes,
        devices=devices,
        store=hardware.store,
        notes=(*host.notes, *drivers.notes, *device_notes, *hardware.store_notes),
    )


def _without_gpu_memory(host: Host, devices: Sequence[Device]) -> Host:
    """Return the host without the memory of GPUs that the kernel counts as its own."""
    unique = {device.uuid or device.id: device for device in devices}
    nodes = gpu_nodes(host.nodes, tuple(unique.values()))
    if not nodes:
        return host
    total = sum(node.total_bytes for node in nodes)
    free = sum(node.free_bytes or 0 for node in nodes)
    whole = host.host_available_bytes
    named = ", ".join(f"{node.node} ({format_bytes(node.total_bytes)})" for node in nodes)
    one = len(nodes) == 1
    note = (
        f"NUMA node{'s' * (not one)} {named} {'is' if one else 'are'} the memory of "
        f"{'a GPU' if one else 'GPUs'}, which the kernel counts as RAM: two pools, and not RAM here"
    )
    return replace(
        host,
        ram_total_bytes=host.ram_total_bytes - total,
        # within a limit, what is available may be RAM alone
        ram_available_bytes=max(host.ram_available_bytes - free, 0)
        if whole is None
        else min(host.ram_available_bytes, max(whole - free, 0)),
        host_available_bytes=None if whole is None else max(whole - free, 0),
        nodes=tuple(node for node in host.nodes if node not in nodes),
        notes=(*host.notes, note),
    )


def _read_drivers(files: KernelFiles, host: Host, env: Mapping[str, str]) -> DriverReport:
    if sys.platform == "darwin":
        devices, notes = read_apple(read_sysctl(), host.ram_available_bytes)
        return DriverReport(devices=devices, notes=notes, asks_sysfs=False)
    reading = read_nvidia()
    variables = {name: env[name] for name in CUDA_VARIABLES if name in env}
    ram = (host.ram_total_bytes, host.ram_available_bytes)
    nvidia, nvidia_notes = cuda_devices(reading, variables, *ram)
    everything, _ = cuda_devices(replace(reading, notes=()), {}, *ram)
    cards = read_cards(files)
    backend = Backend.HIP if files.names("/dev", "kfd") else Backend.VULKAN
    whole = host.ram_available_bytes if host.host_available_bytes is None else host.host_available_bytes
    amd, amd_notes = amd_devices(cards, backend, whole)  # the host's: no cgroup counts it
    driverless = () if reading.gpus or reading.notes else note_missing_driver(files)
    return DriverReport(
        devices=nvidia + amd,
        all_nvidia=everything,
        cards=cards,
        intel_driver=read_intel_driver(files),
        notes=(*nvidia_notes, *driverless, *amd_notes, *note_gtt_limit(files, cards)),
    )


def note_missing_driver(files: KernelFiles) -> tuple[str, ...]:
    """Return a note if there are NVIDIA GPUs on the PCI bus that no NVIDIA driver answers for."""
    folder = "/sys/bus/pci/devices"
    gpus = [
        name
        for name in files.names(folder, r"[0-9a-f:.]+")
        if files.number(f"{folder}/{name}/vendor") == 0x10DE  # NVIDIA
        and (files.number(f"{folder}/{name}/class") or 0) >> 16 == 0x03  # display
    ]
    if not gpus:
        return ()
    note = (
        f"{len(gpus)} NVIDIA GPU{'s' if len(gpus) > 1 else ''} on the PCI bus without NVIDIA's driver: "
        "not used (install the driver; in a container, start it with --gpus all)"
    )
    return (note,)
