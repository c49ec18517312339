"""Look up the speed of GPUs by their driver's name, and of the host's memory by the CPU's name. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from launcher.machine.gpus import gpu_key
from launcher.machine.machine import Backend, Cpu, Device, Link, Machine
from launcher.units import GIB

GB = 10**9
_TERA = 10**12

# Bandwidth in GB/s and dense FP16 matrix TFLOPS with 32-bit accumulation, from the vendors' data sheets
# (NVIDIA GPU architecture whitepapers and product pages, AMD product pages, Apple's technical
# specifications). Apple's TFLOPS are FP16 arithmetic of the shader cores, twice their FP32; M5's are an
# extrapolation.
_GPUS: dict[str, tuple[float, float]] = {
    "3060": (360, 51), "3060ti": (448, 65), "3070": (448, 81), "3070ti": (608, 87), "3080": (760, 119),
    "3080-12g": (912, 122), "3080ti": (912, 136), "3090": (936, 71), "3090ti": (1008, 80),
    "4060": (272, 60), "4060ti": (288, 88), "4060ti-16g": (288, 88), "4070": (504, 117),
    "4070super": (504, 142), "4070ti": (504, 160), "4070tisuper": (672, 176), "4080": (717, 97),
    "4080super": (736, 104), "4090": (1008, 165), "5060": (448, 77), "5060ti": (448, 95),
    "5060ti-16g": (448, 95), "5070": (672, 123), "5070ti": (896, 88), "5080": (960, 113), "5090": (1792, 210),
    "a6000": (768, 155), "6000ada": (960, 182), "pro6000": (1792, 252), "t4": (320, 65), "l4": (300, 121),
    "l40s": (864, 362), "a40": (696, 150), "a100-40g": (1555, 312), "a100-80g": (2039, 312),
    "h100": (3352, 989), "h200": (4800, 989),
    "7900xtx": (960, 123), "7900xt": (800, 103), "mi300x": (5300, 1307), "strix-halo": (256, 59),
    "m1": (68, 5.2), "m1-pro": (200, 10.4), "m1-max": (400, 21.2), "m1-ultra": (800, 42.4),
    "m2": (100, 7.2), "m2-pro": (200, 13.6), "m2-max": (400, 27.2), "m2-ultra": (800, 54.4),
    "m3": (100, 8.2), "m3-pro": (150, 14.8), "m3-max": (400, 28.4), "m3-ultra": (819, 56.8),
    "m4": (120, 8.5), "m4-pro": (273, 18.5), "m4-max": (546, 36.8),
    "m5": (153, 16), "m5-pro": (307, 32), "m5-max": (614, 64),
}  # fmt: skip
# (pattern of the CPU's name, channels per socket, MT/s, words): memory channels at their fastest official
# speed, from Intel ARK and AMD's product pages. The first that matches counts.
_HOSTS: tuple[tuple[str, int, int, str], ...] = (
    (r"EPYC 9\d\d5", 12, 6400, "12 channels of DDR5-6400"),
    (r"EPYC 9\d\d4", 12, 4800, "12 channels of DDR5-4800"),
    (r"EPYC 8\d\d4", 6, 4800, "6 channels of DDR5-4800"),
    (r"EPYC 7", 8, 3200, "8 channels of DDR4-3200"),
    (r"THREADRIPPER PRO 9", 8, 6400, "8 channels of DDR5-6400"),
    (r"THREADRIPPER PRO 7", 8, 5200, "8 channels of DDR5-5200"),
    (r"THREADRIPPER PRO", 8, 3200, "8 channels of DDR4-3200"),
    (r"THREADRIPPER [79]", 4, 5200, "4 channels of DDR5-5200"),
    (r"THREADRIPPER", 4, 3200, "4 channels of DDR4-3200"),
    (r"XEON.* 69\d\d", 12, 6400, "12 channels of DDR5-6400"),
    (r"XEON.* 67\d\d", 8, 6400, "8 channels of DDR5-6400"),
    (r"XEON.* [4568]5\d\d", 8, 5600, "8 channels of DDR5-5600"),
    (r"XEON.* [4568]4\d\d", 8, 4800, "8 channels of DDR5-4800"),
    (r"XEON.* [4568]3\d\d", 8, 3200, "8 channels of DDR4-3200"),
    (r"XEON.* [4568][12]\d\d", 6, 2933, "6 channels of DDR4-2933"),
    (r"XEON.*E5", 4, 2133, "4 channels of DDR4-2133"),
    (r"RYZEN AI MAX", 4, 8000, "256 bits of LPDDR5X-8000"),
    (r"RYZEN 9 9|RYZEN 7 9|RYZEN 5 9", 2, 5600, "2 channels of DDR5-5600"),
    (r"RYZEN [3579] 7", 2, 5200, "2 channels of DDR5-5200"),
    (r"RYZEN", 2, 3200, "2 channels of DDR4-3200"),
    (r"CORE\(?.*ULTRA|1[2345]TH GEN", 2, 5600, "2 channels of DDR5-5600"),
    (r"CORE", 2, 3200, "2 channels of DDR4-3200"),
)

# GB/s a lane and direction (PCI-SIG; 8b/10b, 128b/130b and PAM4 coding counted).
_PCIE_GB_S = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


class ProcessorFamily(StrEnum):
    """Processors of similar efficiency, which are calibrated together."""

    CUDA = "cuda"
    METAL = "metal"
    OTHER_GPU = "other gpu"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    name: str
    family: ProcessorFamily
    bandwidth: float  # bytes/s, as named by the maker
    flops: float  # FLOP/s, as named by the maker
    link: float | None = None  # bytes/s to the host; None if the memory is the host's
    cores: int = 0  # that compute, on a host
    sockets: int = 1
    known: bool = True  # False for a guess
    source: str = ""  # of the figures, in words


def processor_of(device: Device) -> Processor:
    """Look up the speed of a device; an unknown one counts as a middling card of its memory size."""
    family = {Backend.CUDA: ProcessorFamily.CUDA, Backend.METAL: ProcessorFamily.METAL}.get(
        device.backend, ProcessorFamily.OTHER_GPU
    )
    key = gpu_key(device.name)
    link = None if device.shares_host_memory else link_speed(device.link)
    if key is not None:
        bandwidth, tflops = _GPUS[key]
        source = "data sheet"
    else:
        bandwidth, tflops = (900.0, 80.0) if device.total_bytes > 20 * GIB else (450.0, 50.0)
        source = f"a guess: {device.name} is not known"
    return Processor(
        name=device.id,
        family=family,
        bandwidth=bandwidth * GB,
        flops=tflops * _TERA,
        link=link,
        known=key is not None,
        source=source,
    )


def host_processor(machine: Machine, threads: int) -> Processor:
    """Return the host as a processor, with the bandwidth that is measured, named by its CPU, or guessed."""
    bandwidth, source, known = _host_bandwidth(machine)
    return Processor(
        name="host",
        family=ProcessorFamily.HOST,
        bandwidth=bandwidth,
        flops=threads * _flops_per_core(machine.cpu),
        cores=threads,
        sockets=_sockets(machine),
        known=known,
        source=source,
    )


def node_processor(machine: Machine, threads: int, n_nodes: int) -> Processor:
    """Return one NUMA node by itself, with its part of the bandwidth and nothing read across."""
    whole = host_processor(machine, threads)
    return replace(whole, bandwidth=whole.bandwidth / n_nodes, sockets=1)


def link_speed(link: Link | None) -> float:
    """Return the bytes/s of a PCI Express link; unknown values count as generation 4 with 8 lanes."""
    generation = (link.pcie_generation if link else None) or 4
    width = (link.pcie_width if link else None) or 8
    return _PCIE_GB_S.get(generation, 3.938) * width * GB


def _host_bandwidth(machine: Machine) -> tuple[float, str, bool]:
    if machine.ram_bandwidth is not None:
        return float(machine.ram_bandwidth), "as the machine's file or a measurement says", True
    for device in machine.devices:  # unified memory: the GPU's figure is the memory's
        key = gpu_key(device.name)
        if device.shares_host_memory and key is not None:
            return _GPUS[key][0] * GB, f"unified memory of {device.name}", True
    name = (machine.cpu.name or "").upper()
    for pattern, channels, speed, what in _HOSTS:
        if re.search(pattern, name):
            sockets = _sockets(machine)
            return sockets * channels * speed * 8e6, f"{sockets} x {what}, all of them filled", True
    cores = machine.cpu.physical_cores or machine.cpu.logical_cores
    if cores >= 24:
        return 8 * 3200 * 8e6, "a guess: 8 channels of DDR4-3200, the CPU is not known", False
    return 2 * 4800 * 8e6, "a guess: 2 channels of DDR5-4800, the CPU is not known", False


def _sockets(machine: Machine) -> int:
    named = re.match(r"\s*(\d)\s*[xX]\s", machine.cpu.name or "")
    return int(named[1]) if named else 1


def _flops_per_core(cpu: Cpu) -> float:
    """Return the FLOP/s of llama.cpp's quantised matrix products on one core."""
    # Measured prompt speeds of CPU-only rows in the public table are 12 to 100 GFLOP/s a core; AVX-512 and
    # NEON with dot products are about twice AVX2.
    wide = {"AVX512", "AVX512_VNNI", "AMX_INT8", "MATMUL_INT8"} & set(cpu.isa)
    return (50.0 if wide else 25.0) * GB
