"""Make a machine from a few words: `--gpu 3090:2 --gpu 24G --ram 128G --cpu "EPYC 9355"`. Pure.

What the words leave open is assumed, and a note of the machine says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.errors import NotFound, UsageError
from launcher.machine.cpus import MAX_SOCKETS, memory_system, named_sockets, socket_cores, without_sockets
from launcher.machine.gpus import METAL_SHARE_NOTE, gpu_named, idle_device
from launcher.machine.machine import MAX_DEVICES, Backend, Cpu, Device, Machine
from launcher.units import GIB, MIB, parse_size

# llama.cpp's device names without the number (GGML_CUDA_NAME and the like in ggml/include/ggml-*.h)
ID_PREFIX = {
    Backend.CUDA: "CUDA",
    Backend.HIP: "ROCm",
    Backend.VULKAN: "Vulkan",
    Backend.METAL: "MTL",
    Backend.SYCL: "SYCL",
}

# for a machine whose CPU nobody described: threads planned on it are a guess
ASSUMED_CPU = Cpu(
    name=None,
    physical_cores=16,
    performance_cores=16,
    logical_cores=32,
    affinity=32,
    quota=None,
    isa=("AVX", "AVX2", "F16C", "FMA", "BMI2"),
)
ASSUMED_CPU_NOTE = "the CPU is not described: 16 cores with AVX2 are assumed"
_TIMES = re.compile(
    r"(?:(?P<first>\d{1,3})\s*[x*]\s*(?P<after>[\w -]{2,40})"
    r"|(?P<before>[\w -]{2,40}?)\s*[x*]\s*(?P<times>\d{1,2}))",
    re.ASCII,
)
_SIZE = re.compile(r"[0-9]+(\.[0-9]+)?\s*([KMGT](i?B)?)", re.IGNORECASE)
_UNKNOWN_RESERVE = 600 * MIB  # the largest of cards with a log; see cards/nvidia.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A machine in the words of the command line."""

    gpus: tuple[str, ...] = ()  # NAME, SIZE or BACKEND:SIZE, each with :COUNT or not
    ram_bytes: int
    cpu: str | None = None
    sockets: int = 1
    ram_bandwidth: int | None = None  # bytes/s of all sockets


def adhoc_machine(words: Words) -> Machine:
    """Make the machine, its devices in the order given.

    Raises UsageError for a count that is no number or too high, NotFound for a GPU or CPU nobody knows.
    """
    ram_bytes = words.ram_bytes
    if ram_bytes < 1:
        raise UsageError(f"RAM of {ram_bytes} bytes holds nothing", hint="--ram 128G")
    devices = named_devices(words.gpus, ram_bytes)
    metal = any(device.backend is Backend.METAL for device in devices)
    cpu, cpu_notes = _described_cpu(words)
    return Machine(
        os="darwin" if metal else "linux",
        arch="arm64" if metal else "x86_64",
        cpu=cpu,
        ram_total_bytes=ram_bytes,
        ram_available_bytes=idle_available(ram_bytes),
        ram_limit_bytes=None,
        nodes=(),
        devices=devices,
        store=None,
        notes=(*cpu_notes, *((METAL_SHARE_NOTE,) if metal else ())),
        ram_bandwidth=words.ram_bandwidth,
    )


def named_devices(specs: Sequence[str], ram_bytes: int) -> tuple[Device, ...]:
    """Return the cards of `NAME:COUNT`, `SIZE` and the like, in the order given.

    Raises UsageError for a count that is no number or too high, NotFound for a GPU nobody knows.
    """
    devices: list[Device] = []
    for spec in specs:
        card, count = split_count(spec)
        devices += [named_device(card, ram_bytes)] * count
    if len(devices) > MAX_DEVICES:
        raise UsageError(f"{len(devices)} GPUs are too many, llama.cpp takes at most {MAX_DEVICES}")
    return numbered(devices)


def split_count(spec: str) -> tuple[str, int]:
    """Return a card and how many of it `NAME:COUNT` means. Raises UsageError for no count from 1 on."""
    counted = _TIMES.fullmatch(spec.strip())
    if counted is not None:  # `2x3090` and `3090x2`
        raise UsageError(
            f"GPU {spec!r}: a number of cards follows a colon",
            hint=f"--gpu {counted['after'] or counted['before']}:{counted['times'] or counted['first']}",
        )
    name, colon, count = spec.rpartition(":")
    if not colon or _SIZE.fullmatch(count.strip()):  # `cuda:16G` is a size, not a count
        return spec, 1
    if not (count.isascii() and count.isdigit() and 1 <= int(count[:4]) <= MAX_DEVICES):
        raise UsageError(
            f"GPU {spec!r}: {count!r} is not a number of cards from 1 to {MAX_DEVICES}",
            hint="--gpu 3090:2",
        )
    return name, int(count)


def named_device(card: str, ram_bytes: int) -> Device:
    """Return a card by NAME, SIZE or BACKEND:SIZE. Raises NotFound for a name that nobody knows."""
    backend, _, size = card.rpartition(":")
    if not _SIZE.fullmatch(size.strip()):
        return idle_device(gpu_named(card), id="", ram_bytes=ram_bytes)
    if backend.lower() not in {"", *ID_PREFIX}:
        raise NotFound(
            f"GPU {card!r}: {backend!r} is no backend of llama.cpp's",
            hint=f"write it like --gpu cuda:24G; backends are {', '.join(ID_PREFIX)}",
        )
    total = parse_size(size)
    kind = Backend(backend.lower() or "cuda")
    return Device(
        id="",
        backend=kind,
        name=f"{kind.value} card of {size.strip()}",
        total_bytes=total,
        free_bytes=max(total - _UNKNOWN_RESERVE, 0),
    )


def _described_cpu(words: Words) -> tuple[Cpu, tuple[str, ...]]:
    """Return the processor of the words, and notes on what is assumed of it."""
    if words.cpu is None:
        return ASSUMED_CPU, (ASSUMED_CPU_NOTE,)
    cores = socket_cores(words.cpu)
    if cores is None and memory_system(words.cpu) is None:
        raise NotFound(
            f"no CPU is known by the name {words.cpu!r}",
            hint='write it like --cpu "EPYC 9355" or --cpu "Core i9-14900K", or give --ram-bandwidth 200G',
        )
    sockets = min(max(words.sockets, named_sockets(words.cpu)), MAX_SOCKETS)
    all_cores = (cores or 16) * sockets
    note = "" if cores else f"the cores of {words.cpu} are not known: {all_cores} are assumed"
    return replace(
        ASSUMED_CPU,
        name=f"{sockets} x {without_sockets(words.cpu)}" if sockets > 1 else words.cpu,
        physical_cores=all_cores,
        performance_cores=all_cores,
        logical_cores=2 * all_cores,
        affinity=2 * all_cores,
    ), ((note,) if note else ())


def idle_available(total: int) -> int:
    """Estimate the memory available on an idle host with `total` bytes."""
    # the kernel's page descriptors take 64 of every 4096 bytes (Linux, include/linux/mm_types.h, struct
    # page), the system and its services about 2 GiB (assumed), both together never more than half
    return max(total - total // 64 - 2 * GIB, total // 2)


def numbered(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Give devices without an id llama.cpp's: the backend's name and a number counted per backend."""
    counts: dict[Backend, int] = {}
    named = []
    for device in devices:
        number = counts.get(device.backend, 0)
        counts[device.backend] = number + 1
        named.append(device if device.id else replace(device, id=f"{ID_PREFIX[device.backend]}{number}"))
    return tuple(named)
