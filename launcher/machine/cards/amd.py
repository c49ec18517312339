"""List AMD's cards since Polaris, and the APUs people run models on. Pure."""

from __future__ import annotations

from launcher.machine.cards.card import Gpu
from launcher.machine.machine import Backend

# Operations of llama.cpp's quantised products for each FP32 operation that the data sheet names, by family:
# Polaris none; Vega 10 and RDNA 1 packed FP16; Vega 20 and RDNA 2 INT8 dot products; RDNA 3 WMMA (its FP32
# figure counts dual issue); RDNA 4 WMMA at twice the rate for INT8; CDNA matrix cores, INT8.
_OPS_PER_FLOP = {
    "gfx803": 1.0, "gfx900": 2.0, "gfx906": 4.0, "gfx908": 8.0, "gfx90a": 8.0, "gfx942": 16.0, "gfx950": 32.0,
    "gfx1010": 2.0, "gfx103x": 4.0, "gfx11xx": 2.0, "gfx12xx": 8.0,
}  # fmt: skip

# Total: `mem_info_vram_total` of the amdgpu driver, as llama.cpp's Vulkan backend lists it (RADV); of cards
# without a published log the nominal size less the 16 MiB that all others lack. PCI Express, bandwidth (GB/s)
# and FP32 TFLOPS are from AMD's product pages and data sheets. One GCD of the dual cards.
# short name: driver's name, total MiB, PCIe generation, lanes, family, GB/s, FP32 TFLOPS
_CARDS: dict[str, tuple[str, int, int, int, str, float, float]] = {
    "rx470": ("AMD Radeon RX 470", 8176, 3, 16, "gfx803", 211, 4.9),
    "rx480": ("AMD Radeon RX 480", 8176, 3, 16, "gfx803", 256, 5.8),
    "rx570": ("AMD Radeon RX 570", 8176, 3, 16, "gfx803", 224, 5.1),
    "rx580": ("AMD Radeon RX 580", 8176, 3, 16, "gfx803", 256, 6.2),
    "rx590": ("AMD Radeon RX 590", 8176, 3, 16, "gfx803", 256, 7.1),
    "vega56": ("AMD Radeon RX Vega 56", 8176, 3, 16, "gfx900", 410, 10.5),
    "vega64": ("AMD Radeon RX Vega 64", 8176, 3, 16, "gfx900", 484, 12.7),
    "radeonvii": ("AMD Radeon VII", 16368, 3, 16, "gfx906", 1024, 13.4),
    "5500xt": ("AMD Radeon RX 5500 XT", 8176, 4, 8, "gfx1010", 224, 5.2),
    "5600xt": ("AMD Radeon RX 5600 XT", 6128, 4, 16, "gfx1010", 288, 7.2),
    "5700": ("AMD Radeon RX 5700", 8176, 4, 16, "gfx1010", 448, 8.0),
    "5700xt": ("AMD Radeon RX 5700 XT", 8176, 4, 16, "gfx1010", 448, 9.8),
    "6500xt": ("AMD Radeon RX 6500 XT", 4080, 4, 4, "gfx103x", 144, 5.8),
    "6600": ("AMD Radeon RX 6600", 8176, 4, 8, "gfx103x", 224, 8.9),
    "6600xt": ("AMD Radeon RX 6600 XT", 8176, 4, 8, "gfx103x", 256, 10.6),
    "6650xt": ("AMD Radeon RX 6650 XT", 8176, 4, 8, "gfx103x", 280, 10.8),
    "6700": ("AMD Radeon RX 6700", 10224, 4, 16, "gfx103x", 320, 11.3),
    "6700xt": ("AMD Radeon RX 6700 XT", 12272, 4, 16, "gfx103x", 384, 13.2),
    "6750xt": ("AMD Radeon RX 6750 XT", 12272, 4, 16, "gfx103x", 432, 13.3),
    "6800": ("AMD Radeon RX 6800", 16368, 4, 16, "gfx103x", 512, 16.2),
    "6800xt": ("AMD Radeon RX 6800 XT", 16368, 4, 16, "gfx103x", 512, 20.7),
    "6900xt": ("AMD Radeon RX 6900 XT", 16368, 4, 16, "gfx103x", 512, 23.0),
    "6950xt": ("AMD Radeon RX 6950 XT", 16368, 4, 16, "gfx103x", 576, 23.7),
    "w6800": ("AMD Radeon PRO W6800", 30704, 4, 16, "gfx103x", 512, 17.8),
    "v620": ("AMD Radeon PRO V620", 30704, 4, 16, "gfx103x", 512, 20.3),
    "7600": ("AMD Radeon RX 7600", 8176, 4, 8, "gfx11xx", 288, 21.8),
    "7600xt": ("AMD Radeon RX 7600 XT", 16368, 4, 8, "gfx11xx", 288, 22.6),
    "7700xt": ("AMD Radeon RX 7700 XT", 12272, 4, 16, "gfx11xx", 432, 35.2),
    "7800xt": ("AMD Radeon RX 7800 XT", 16368, 4, 16, "gfx11xx", 624, 37.3),
    "7900gre": ("AMD Radeon RX 7900 GRE", 16368, 4, 16, "gfx11xx", 576, 46.0),
    "7900xt": ("AMD Radeon RX 7900 XT", 20464, 4, 16, "gfx11xx", 800, 51.5),
    "7900xtx": ("AMD Radeon RX 7900 XTX", 24560, 4, 16, "gfx11xx", 960, 61.4),
    "w7700": ("AMD Radeon PRO W7700", 16368, 4, 16, "gfx11xx", 576, 28.3),
    "w7800": ("AMD Radeon PRO W7800", 32752, 4, 16, "gfx11xx", 576, 45.2),
    "w7800-48g": ("AMD Radeon PRO W7800 48GB", 49136, 4, 16, "gfx11xx", 864, 45.2),
    "w7900": ("AMD Radeon PRO W7900", 46064, 4, 16, "gfx11xx", 864, 61.3),
    "9060xt": ("AMD Radeon RX 9060 XT", 8160, 5, 16, "gfx12xx", 320, 25.6),
    "9060xt-16g": ("AMD Radeon RX 9060 XT", 16304, 5, 16, "gfx12xx", 320, 25.6),
    "9070gre": ("AMD Radeon RX 9070 GRE", 12224, 5, 16, "gfx12xx", 432, 34.2),
    "9070": ("AMD Radeon RX 9070", 16304, 5, 16, "gfx12xx", 640, 36.1),
    "9070xt": ("AMD Radeon RX 9070 XT", 16304, 5, 16, "gfx12xx", 640, 48.7),
    "r9700": ("AMD Radeon AI PRO R9700", 32624, 5, 16, "gfx12xx", 640, 47.8),
    "mi25": ("AMD Radeon Instinct MI25", 16368, 3, 16, "gfx900", 484, 12.3),
    "mi50": ("AMD Radeon Instinct MI50", 16368, 4, 16, "gfx906", 1024, 13.3),
    "mi50-32g": ("AMD Radeon Instinct MI50", 32752, 4, 16, "gfx906", 1024, 13.3),
    "mi60": ("AMD Radeon Instinct MI60", 32752, 4, 16, "gfx906", 1024, 14.7),
    "mi100": ("AMD Instinct MI100", 32752, 4, 16, "gfx908", 1229, 23.1),
    "mi210": ("AMD Instinct MI210", 65520, 4, 16, "gfx90a", 1638, 22.6),
    "mi250x": ("AMD Instinct MI250X", 65520, 4, 16, "gfx90a", 1638, 23.9),
    "mi300x": ("AMD Instinct MI300X", 196592, 5, 16, "gfx942", 5300, 163.4),
    "mi325x": ("AMD Instinct MI325X", 262128, 5, 16, "gfx942", 6000, 163.4),
    "mi350x": ("AMD Instinct MI350X", 294896, 5, 16, "gfx950", 8000, 144.2),
    "mi355x": ("AMD Instinct MI355X", 294896, 5, 16, "gfx950", 8000, 157.3),
}
# GPUs with the machine's memory; their bandwidth is that of the fastest memory sold with them: driver's name,
# family, GB/s, FP32 TFLOPS
_APUS: dict[str, tuple[str, str, float, float]] = {
    "strix-halo": ("AMD Radeon 8060S Graphics", "gfx11xx", 256, 29.7),
    "8050s": ("AMD Radeon 8050S Graphics", "gfx11xx", 256, 22.9),
    "890m": ("AMD Radeon 890M Graphics", "gfx11xx", 120, 11.9),
    "880m": ("AMD Radeon 880M Graphics", "gfx11xx", 120, 8.9),
    "780m": ("AMD Radeon 780M Graphics", "gfx11xx", 89.6, 8.3),
    "680m": ("AMD Radeon 680M Graphics", "gfx103x", 76.8, 3.4),
}


def amd_gpus() -> tuple[Gpu, ...]:
    """Return the cards, then the APUs."""
    cards = [
        Gpu(
            key=key,
            name=name,
            backend=Backend.HIP,
            total_mib=total,
            pcie_generation=generation,
            pcie_width=width,
            source="a",
            gb_s=gb_s,
            tera_ops=tflops * _OPS_PER_FLOP[family],
        )
        for key, (name, total, generation, width, family, gb_s, tflops) in _CARDS.items()
    ]
    apus = [
        Gpu(
            key=key,
            name=name,
            backend=Backend.VULKAN,
            source="a",
            gb_s=gb_s,
            tera_ops=tflops * _OPS_PER_FLOP[family],
        )
        for key, (name, family, gb_s, tflops) in _APUS.items()
    ]
    return (*cards, *apus)
