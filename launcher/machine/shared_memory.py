"""Tell which GPUs have the host's memory instead of their own, and whose it is in a container. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from launcher.machine.from_words import idle_available
from launcher.machine.gpus import gpu_of
from launcher.machine.machine import Backend, Device, Machine, MemoryPool
from launcher.units import GIB

# Compute capabilities that only integrated GPUs have (NVIDIA's list of CUDA GPUs and of Jetson boards): TX1,
# TX2, Xavier, Orin, Thor (10.1 until CUDA 13, then 11.0), GB10.
_INTEGRATED_CAPABILITIES = {"5.3", "6.2", "7.2", "8.7", "10.1", "11.0", "12.1"}

_NVIDIA = re.compile(r"\b(GB10|Thor|Orin|Tegra|Xavier)\b|NVIDIA N1X?\b")

# Names of AMD's APUs: Vega and RDNA graphics by their number (780M, 8060S), the chip that RADV adds (Mesa,
# src/amd/common/ac_gpu_info.c), or Windows' "Radeon(TM) Graphics". A plain "AMD Radeon Graphics" can be
# either kind and is left to sysfs.
_AMD = re.compile(
    r"\bRadeon(\(TM\))? ((610|6[68]0|7[468]0|8[24689]0)M|80[4-9]0S)\b|\bRadeon\(TM\) Graphics\b"
    r"|\bRadeon(\(TM\))? (RX )?Vega (3|6|7|8|10|11) Graphics\b"
    r"|\bCustom GPU (0405|0932)\b|\bMI300A\b"
    r"|\bRADV (RAVEN2?|RENOIR|VANGOGH|REMBRANDT|RAPHAEL_MENDOCINO|PHOENIX2?|STRIX1|STRIX_HALO|KRACKAN1"
    r"|GFX115\d)\b"
)

# Intel's integrated GPUs are called UHD, Iris, plain Graphics, Arc Graphics, Arc 140V, and with Panther Lake
# Arc B370 and B390; the cards Arc with A or B and another number, Flex and Max (Mesa, iris_pci_ids.h).
_INTEL_CARD = re.compile(r"\b[AB]\d{2,3}M?\b|Flex|Max")
_INTEL_INTEGRATED = re.compile(r"\bB3[679]0\b")

# A driver's total of all memory and MemTotal differ by what kernel and firmware take: by nothing for GB10's
# NVML (XuehaiPan/nvitop#208).
_TOLERANCE = 0.03

_CARD_NAME = re.compile(
    r"GeForce|\bRTX\b|\bGTX\b|Quadro|Tesla|TITAN|Radeon (RX|PRO|Pro|VII|AI)\b|Instinct|\bG?[ABHLPTV]\d{1,3}\b"
)


def shares_by_kind(backend: Backend, name: str, compute_capability: str | None = None) -> bool:
    """Return True for a GPU that is known to have the host's memory, by name or compute capability."""
    if compute_capability in _INTEGRATED_CAPABILITIES and backend is Backend.CUDA:
        return True
    known = gpu_of(name)
    if backend is Backend.METAL or "Apple M" in name:  # Vulkan shows Apple's GPUs too
        return "Apple" in name
    if "Intel" in name:
        return _INTEL_CARD.search(name) is None or _INTEL_INTEGRATED.search(name) is not None
    if known is not None:
        return known.total_mib is None
    return bool(_NVIDIA.search(name) or _AMD.search(name))


def shares_by_size(device: Device, ram_bytes: int) -> bool:
    """Return True if a GPU that is not known to be a card reports all of the host's memory as its own."""
    # A card can be as large as the host's RAM by chance: a card is known by its name, and has a link of
    # several lanes.
    is_card = gpu_of(device.name) is not None or _CARD_NAME.search(device.name) is not None
    is_card = is_card or (device.link is not None and (device.link.pcie_width or 0) > 1)
    if is_card or device.lies_in_ram:
        return device.shares_host_memory
    return abs(device.total_bytes - ram_bytes) <= _TOLERANCE * ram_bytes


def is_unclear(device: Device) -> bool:
    """Tell if a GPU's name leaves open whether it has its own memory, as "AMD Radeon Graphics" does."""
    is_amd = "AMD" in device.name or "Radeon" in device.name
    named = gpu_of(device.name) is not None or _CARD_NAME.search(device.name) is not None
    return is_amd and not named and not device.shares_host_memory


# GPUs whose memory the kernel may put online as a NUMA node of the host (Grace Hopper and Grace Blackwell in
# their default mode: NVIDIA Grace Hopper tuning guide, "coherent memory"). It is in MemTotal then.
_COHERENT = re.compile(r"\bG[BH][23]00\b")
_NODE_TOLERANCE = 0.1  # between a GPU's total and its node's: what driver and firmware keep


def gpu_nodes(nodes: Sequence[MemoryPool], devices: Sequence[Device]) -> tuple[MemoryPool, ...]:
    """Return the NUMA nodes that are the memory of such GPUs: they have no CPUs and a GPU's size."""
    left = [node for node in nodes if not node.cpus]
    found = []
    for device in devices:
        if device.backend is not Backend.CUDA or not _COHERENT.search(device.name):
            continue
        gap = _NODE_TOLERANCE * device.total_bytes
        node = next((node for node in left if abs(node.total_bytes - device.total_bytes) <= gap), None)
        if node is not None:
            left.remove(node)
            found.append(node)
    return tuple(found)


def shares(device: Device, ram_bytes: int) -> bool:
    """Return True if a device of a host with `ram_bytes` has the host's memory, as far as can be told."""
    by_kind = shares_by_kind(device.backend, device.name, device.compute_capability)
    return device.shares_host_memory or by_kind or shares_by_size(device, ram_bytes)


class Charge(StrEnum):
    """Who pays for the memory that a GPU takes of the host's: the cgroup of the process, or the host."""

    CGROUP = "cgroup"
    HOST = "host"
    UNKNOWN = "unknown"  # counted to the cgroup


def charge_of(device: Device) -> Charge:
    """Return who pays for the memory of a device that shares the host's, by its driver."""
    # amdgpu: pages come from ttm_pool_alloc_page (Linux, drivers/gpu/drm/ttm/ttm_pool.c), alloc_pages_node
    # without __GFP_ACCOUNT: not charged (patches that would are discussed on dri-devel since 2025).
    # i915: pages are shmem's (gem/i915_gem_shmem.c), charged to who touches them first
    # (Documentation/admin-guide/cgroup-v2.rst, Memory Ownership). xe has TTM's like amdgpu (xe_bo.c,
    # xe_ttm_tt_populate). Where sysfs does not tell which of the two it is, the tighter rule holds.
    # llvmpipe: memory of the process itself.
    # NVIDIA: nvidia.ko allocates without __GFP_ACCOUNT (nv-vm.c, nv_compute_gfp_mask), nvidia-uvm with it.
    if "AMD" in device.name or "Radeon" in device.name:
        return Charge.HOST
    if "Intel" in device.name and device.kernel_driver == "xe":
        return Charge.HOST
    return Charge.CGROUP if "Intel" in device.name or device.is_software else Charge.UNKNOWN


def counts_in_ram(machine: Machine, device: Device) -> bool:
    if not device.lies_in_ram:
        return False
    return charge_of(device) is not Charge.HOST or not is_contained(machine)


def memory_bytes(machine: Machine) -> int:
    """Return the RAM that is available and all memory of GPUs that is not in it: nothing larger loads."""
    own = (device.total_bytes for device in machine.devices if not counts_in_ram(machine, device))
    return machine.ram_available_bytes + sum(own)


def is_contained(machine: Machine) -> bool:
    if machine.ram_limit_bytes is not None:
        return True
    # In an LXC, lxcfs shows the limit as MemTotal (man lxcfs), while the driver tells the host's. GTT can be
    # set to all memory that is installed (ttm.pages_limit), which is more than MemTotal, but not to a
    # multiple of it.
    mapped = [d.total_bytes - d.carve_out_bytes for d in machine.devices if d.shares_host_memory]
    carved = sum(d.carve_out_bytes for d in machine.devices)
    return max(mapped, default=0) > _installed(machine.ram_total_bytes + carved)


def host_available(machine: Machine) -> int | None:
    """Return the memory available on the whole host of a container; None if it is not known."""
    if machine.host_available_bytes is not None or machine.ram_limit_bytes is None:
        return machine.host_available_bytes
    return max(machine.ram_available_bytes, idle_available(machine.ram_total_bytes))


def _installed(ram_bytes: int) -> int:
    size = GIB
    while size < ram_bytes:
        size *= 2
    return size * 3 // 4 if size * 3 // 4 >= ram_bytes else size
