"""Look up the speed of GPUs by their driver's name, and of the host's memory by the CPU's name. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from launcher.machine.cards.card import Gpu
from launcher.machine.cpus import memory_system, named_sockets
from launcher.machine.gpus import gpu_of
from launcher.machine.machine import Backend, Device, Link, Machine
from launcher.units import GIB

GB = 10**9
_TERA = 10**12

# GB/s a lane and direction (PCI-SIG; 8b/10b, 128b/130b and PAM4 coding counted).
_PCIE_GB_S = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


# The part of the named bandwidth that a reading benchmark reaches: 225 of 307 GB/s (mlc, Threadripper PRO
# 7965WX), 598 of 614 (OCCT, EPYC 9355), in the public table; the middle of the two.
_READ_OF_NAMED = 0.85


# FLOP/s of one core in matrix products, of which the fit finds the share that is reached. The same for every
# instruction set: with half of it for AVX2 alone, held-out prompts of ik_llama.cpp are 1.29x off and 61 % are
# within 1.5x, instead of 1.21x and 66 %, and mainline's S230 to S235 (16 to 128 threads) are forecast at 0.2
# to 0.6 of what was measured.
CORE_FLOPS = 50.0 * GB


class ProcessorFamily(StrEnum):
    """Processors of similar efficiency, which are calibrated together."""

    CUDA = "cuda"
    OLD_CUDA = "cuda before Ampere"
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
    link_rate: float | None = None  # bytes/s that were copied over the link, where that was measured
    cores: int = 0  # that compute, on a host
    core_rate: float | None = None  # bytes/s of weights that one of them multiplies, where that was measured
    # cached tokens of a head/s that one of them attends to, by type and head, where that was measured
    attention_rates: tuple[tuple[str, int], ...] = ()
    sockets: int = 1
    known: bool = True  # False for a guess
    source: str = ""  # of the figures, in words


def processor_of(device: Device) -> Processor:
    """Look up the speed of a device; an unknown one counts as a middling card of its memory size."""
    known = gpu_of(device.name, device.total_bytes)
    link = None if device.shares_host_memory else link_speed(device.link)
    if known is not None:
        gb_s, tera_ops, source = known.gb_s, known.tera_ops, "data sheet"
    else:
        gb_s, tera_ops = _guessed_speed(device)
        source = f"a guess: {device.name} is not known"
    return Processor(
        name=device.id,
        family=_family(device, known),
        bandwidth=gb_s * GB,
        flops=tera_ops * _TERA,
        link=link,
        link_rate=device.link.rate if device.link else None,
        known=known is not None,
        source=source,
    )


def _family(device: Device, known: Gpu | None) -> ProcessorFamily:
    if device.backend is Backend.METAL:
        return ProcessorFamily.METAL
    if device.backend is not Backend.CUDA:
        return ProcessorFamily.OTHER_GPU
    capability = device.compute_capability or (known.compute_capability if known else None) or ""
    # asynchronous copies and the newer matrix products are for 8.0 and above (ggml-cuda, cp_async_available)
    old = re.fullmatch(r"[1-7]\.[0-9]", capability) is not None
    return ProcessorFamily.OLD_CUDA if old else ProcessorFamily.CUDA


def _guessed_speed(device: Device) -> tuple[float, float]:
    """Guess GB/s and 10^12 operations a second: those of a middling card of its memory size."""
    if device.shares_host_memory:
        return 90.0, 20.0  # an integrated GPU beside two channels of DDR5-5600
    return (900.0, 280.0) if device.total_bytes > 20 * GIB else (450.0, 170.0)


def host_processor(machine: Machine, threads: int) -> Processor:
    """Return the host as a processor, with the bandwidth that is measured, named by its CPU, or guessed."""
    bandwidth, source, known = _host_bandwidth(machine)
    return Processor(
        name="host",
        family=ProcessorFamily.HOST,
        bandwidth=bandwidth,
        flops=threads * CORE_FLOPS,
        cores=threads,
        core_rate=machine.core_rate,
        attention_rates=machine.attention_rates,
        sockets=named_sockets(machine.cpu.name),
        known=known,
        source=source,
    )


def node_processor(machine: Machine, threads: int, n_nodes: int) -> Processor:
    """Return one NUMA node by itself, with its part of the bandwidth and nothing read across."""
    whole = host_processor(machine, threads)
    measured = [rate for _, rate in machine.node_rates]
    bandwidth = min(measured) / _READ_OF_NAMED if measured else whole.bandwidth / n_nodes
    return replace(whole, bandwidth=bandwidth, sockets=1)


def link_speed(link: Link | None) -> float:
    """Return the bytes/s of a PCI Express link; unknown values count as generation 4 with 8 lanes."""
    generation = (link.pcie_generation if link else None) or 4
    width = (link.pcie_width if link else None) or 8
    return _PCIE_GB_S.get(generation, 3.938) * width * GB


def _host_bandwidth(machine: Machine) -> tuple[float, str, bool]:
    if machine.ram_read_rate is not None:
        named = machine.ram_read_rate / _READ_OF_NAMED
        return named, f"from {machine.ram_read_rate / GB:.0f} GB/s measured", True
    if machine.ram_bandwidth is not None:
        return float(machine.ram_bandwidth), "as given", True
    for device in machine.devices:  # unified memory: the GPU's figure is the memory's
        known = gpu_of(device.name, device.total_bytes)
        if device.shares_host_memory and known is not None:
            return known.gb_s * GB, f"unified memory of {device.name}", True
    memory = memory_system(machine.cpu.name or "")
    if memory is not None:
        sockets = named_sockets(machine.cpu.name)
        return sockets * memory.bandwidth, f"{sockets} x {memory.words}, all of them filled", True
    return _guessed_bandwidth(machine)


def _guessed_bandwidth(machine: Machine) -> tuple[float, str, bool]:
    """Guess what machines with this much memory and so many cores usually are."""
    # Desktop boards take four modules of at most 64 GB at two channels; more memory is a workstation's or a
    # server's. Of the rigs with 384 GB and more in the public table most have DDR5.
    cores = machine.cpu.physical_cores or machine.cpu.logical_cores
    gib = machine.ram_total_bytes / GIB
    if gib >= 360:
        channels, speed, words = 8, 4800, "8 channels of DDR5-4800"
    elif gib > 200 or cores >= 24:
        channels, speed, words = 8, 3200, "8 channels of DDR4-3200"
    else:
        channels, speed, words = 2, 4800, "2 channels of DDR5-4800"
    why = "the CPU is not known, such machines usually have them"
    return channels * speed * 8e6, f"a guess: {words}; {why}", False
