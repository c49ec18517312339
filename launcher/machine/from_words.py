"""Make a machine from a few words: `--gpu 3090:2 --gpu 3060 --ram 128G`. Pure.

What the words leave open is assumed, and a note of the machine says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launcher.errors import UsageError
from launcher.machine.gpus import METAL_SHARE_NOTE, Gpu, gpu_named, idle_device
from launcher.machine.machine import MAX_DEVICES, Backend, Cpu, Device, Machine
from launcher.units import GIB

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


def adhoc_machine(gpus: Sequence[str], ram_bytes: int) -> Machine:
    """Make the machine, its devices in the order given.

    Raises UsageError for a count that is no number or too high, NotFound for a GPU nobody knows.
    """
    cards: list[Gpu] = []
    for spec in gpus:
        name, colon, count = spec.rpartition(":")
        if colon and not (count.isascii() and count.isdigit() and 1 <= int(count[:4]) <= MAX_DEVICES):
            raise UsageError(
                f"GPU {spec!r}: {count!r} is not a number of cards from 1 to {MAX_DEVICES}",
                hint="write it like --gpu 3090:2",
            )
        cards += [gpu_named(name if colon else spec)] * (int(count) if colon else 1)
    if len(cards) > MAX_DEVICES:
        raise UsageError(f"{len(cards)} GPUs are too many, llama.cpp takes at most {MAX_DEVICES}")
    if ram_bytes < 1:
        raise UsageError(f"RAM of {ram_bytes} bytes holds nothing", hint="write it like --ram 128G")
    metal = any(card.backend is Backend.METAL for card in cards)
    return Machine(
        os="darwin" if metal else "linux",
        arch="arm64" if metal else "x86_64",
        cpu=ASSUMED_CPU,
        ram_total_bytes=ram_bytes,
        ram_available_bytes=idle_available(ram_bytes),
        ram_limit_bytes=None,
        nodes=(),
        devices=numbered([idle_device(card, id="", ram_bytes=ram_bytes) for card in cards]),
        store=None,
        notes=(ASSUMED_CPU_NOTE, *((METAL_SHARE_NOTE,) if metal else ())),
    )


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
