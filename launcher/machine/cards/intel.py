"""List Intel's Arc cards and the integrated graphics people run models on. Pure."""

from __future__ import annotations

from launcher.machine.cards.card import Gpu
from launcher.machine.machine import Backend

# Total: the nominal size less what the driver keeps; no log was found for most, so 1/32 is taken off. PCI
# Express, bandwidth (GB/s) and INT8 TOPS (XMX) are from Intel's product pages (ARK).
# short name: driver's name, total MiB, PCIe generation, lanes, GB/s, TOPS
_CARDS: dict[str, tuple[str, int, int, int, float, float]] = {
    "a310": ("Intel(R) Arc(TM) A310 Graphics", 3968, 4, 8, 124, 49),
    "a380": ("Intel(R) Arc(TM) A380 Graphics", 5952, 4, 8, 186, 66),
    "a580": ("Intel(R) Arc(TM) A580 Graphics", 7936, 4, 16, 512, 197),
    "a750": ("Intel(R) Arc(TM) A750 Graphics", 7936, 4, 16, 512, 229),
    "a770": ("Intel(R) Arc(TM) A770 Graphics", 15872, 4, 16, 560, 262),
    "a770-8g": ("Intel(R) Arc(TM) A770 Graphics", 7936, 4, 16, 512, 262),
    "b570": ("Intel(R) Arc(TM) B570 Graphics", 9920, 4, 8, 380, 203),
    "b580": ("Intel(R) Arc(TM) B580 Graphics", 11904, 4, 8, 456, 233),
    "b50": ("Intel(R) Arc(TM) Pro B50 Graphics", 15872, 5, 8, 224, 170),
    "b60": ("Intel(R) Arc(TM) Pro B60 Graphics", 23808, 5, 8, 456, 197),
}
_INTEGRATED: dict[str, tuple[str, float, float]] = {
    "arc-140v": ("Intel(R) Arc(TM) 140V GPU", 136, 67),
    "arc-140t": ("Intel(R) Arc(TM) 140T GPU", 120, 77),
}


def intel_gpus() -> tuple[Gpu, ...]:
    """Return the cards, then the integrated ones, as Vulkan shows them."""
    cards = [
        Gpu(
            key=key,
            name=name,
            backend=Backend.VULKAN,
            total_mib=total,
            pcie_generation=generation,
            pcie_width=width,
            source="n",
            gb_s=gb_s,
            tera_ops=tops,
        )
        for key, (name, total, generation, width, gb_s, tops) in _CARDS.items()
    ]
    integrated = [
        Gpu(
            key=key,
            name=name,
            backend=Backend.VULKAN,
            source="n",
            gb_s=gb_s,
            tera_ops=tops,
        )
        for key, (name, gb_s, tops) in _INTEGRATED.items()
    ]
    return (*cards, *integrated)
